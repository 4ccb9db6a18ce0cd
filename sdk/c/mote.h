/*
 * A function for Mote in C: a request in, a reply out.
 *
 *     #include "mote.h"
 *
 *     void handle(mote_text body)
 *     {
 *         mote_text name = mote_query_value("name", "world");
 *         mote_printf("hello, %s\n", name.data);
 *     }
 *
 * Each call runs in a memory of its own: what a function leaves in a global is gone for the next call. Every text that
 * comes from here ends with a zero byte beside its length, and lives until the call is over; nothing has to be freed.
 * What the manifest does not grant fails, and mote_error() says so.
 */
#ifndef MOTE_H
#define MOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MOTE_FORMAT(format, first) __attribute__((__format__(__printf__, format, first)))
#else
#define MOTE_FORMAT(format, first)
#endif

/* Bytes, mostly text; data[length] is 0, and data is never NULL. */
typedef struct {
    const char *data;
    size_t length;
} mote_text;

typedef struct {
    mote_text name;
    mote_text value;
} mote_header;

/* The function: yours to write. Its reply is what it says with the functions below; without any, it is empty. */
void handle(mote_text body);

/*
 * Before a function's name, MOTE_PREINIT void fill(void) { … }: it is called once while the function is built, with
 * build = { language = "c", preinit = true }, and its memory becomes the one that each call begins with. There is no
 * call yet, so it may use nothing of this file.
 */
#define MOTE_PREINIT __attribute__((__export_name__("mote-preinit")))

/* ---- The request ---- */

/* "GET", "POST" and so on; CoAP's methods have their HTTP names. */
mote_text mote_method(void);
/* What follows the function's name in the path: empty, or starting with '/'. */
mote_text mote_path(void);
/* The query without its question mark, as it was sent; empty when there is none. */
mote_text mote_query(void);
/* The first value of a name in the query, decoded; `otherwise`, which may be NULL, when there is none. */
mote_text mote_query_value(const char *name, const char *otherwise);
/* Whether there is a header; its first value goes to `value`. Case does not matter. */
bool mote_get_header(const char *name, mote_text *value);
/* Every header in its order, names in lower case; gives how many. */
size_t mote_headers(const mote_header **headers);
/* The id of this call, as it is in the log. */
mote_text mote_call_id(void);

/* ---- The reply ---- */

/* 200 to 599; without it, 200. */
void mote_status(int status);
/* Instead of what it has under this name. A name or value that HTTP does not allow ends the call as a failure. */
void mote_set_header(const char *name, const char *value);
/* Beside what it has under this name. */
void mote_add_header(const char *name, const char *value);
/* Makes this reply what observers of this path and query are shown. The function needs observable = true. */
void mote_publish(void);
/* These add to the body. */
void mote_write(const void *data, size_t length);
void mote_print(const char *text);
void mote_printf(const char *format, ...) MOTE_FORMAT(1, 2);
/* The function could not answer: the caller gets status 500 with this text instead of a body, and it is logged. */
void mote_fail(const char *format, ...) MOTE_FORMAT(1, 2);

/* ---- The log, which `mote logs` shows ---- */

typedef enum { MOTE_TRACE, MOTE_DEBUG, MOTE_INFO, MOTE_WARN, MOTE_ERROR } mote_level;

void mote_log(mote_level level, const char *format, ...) MOTE_FORMAT(2, 3);

/* ---- Settings and secrets: `env` and `allow.secrets` of the manifest ---- */

/* The value of a setting or secret; `otherwise`, which may be NULL, when there is none. */
mote_text mote_config(const char *key, const char *otherwise);

/* ---- What goes on when something fails ---- */

/* What came of asking. */
typedef enum {
    MOTE_FAILED = -1, /* mote_error() says why */
    MOTE_NONE = 0,    /* there is no such key, or somebody else was faster */
    MOTE_OK = 1
} mote_result;

/* Why the last function that gives a result has failed. */
const char *mote_error(void);

/* What went wrong, of the platform's table of errors, in the order of the world in sdk/wit. */
typedef enum {
    MOTE_BAD_REQUEST,
    MOTE_FORBIDDEN,
    MOTE_NOT_FOUND,
    MOTE_TOO_LARGE,
    MOTE_THROTTLED,
    MOTE_FUNCTION_FAILED,
    MOTE_OVERLOADED,
    MOTE_TIMEOUT,
    MOTE_STORAGE_FULL,
    MOTE_INTERNAL
} mote_kind;

/* The kind of that failure; whatever is wrong with a value of key-value data is MOTE_INTERNAL. */
mote_kind mote_error_kind(void);

/* ---- Data that outlives a call, shared by the functions of an app; needs allow.keyvalue = true ---- */

/* A name space of keys, until it is closed. */
typedef struct {
    int32_t handle;
} mote_bucket;

/* "default", or another name of lower-case letters, digits and hyphens. */
mote_result mote_open(const char *name, mote_bucket *bucket);
void mote_close(mote_bucket bucket);
mote_result mote_get(mote_bucket bucket, const char *key, mote_text *value);
mote_result mote_set(mote_bucket bucket, const char *key, const void *value, size_t length);
mote_result mote_set_text(mote_bucket bucket, const char *key, const char *value);
/* A key that is not there is no failure. */
mote_result mote_delete(mote_bucket bucket, const char *key);
/* Adds to a number, which begins at 0; `now`, which may be NULL, is what it is then. Nobody comes in between. */
mote_result mote_increment(mote_bucket bucket, const char *key, int64_t by, int64_t *now);
/* Some of the keys. `cursor` begins as an empty text, and is empty again after the last key. */
mote_result mote_keys(mote_bucket bucket, mote_text *cursor, const mote_text **keys, size_t *count);

/* A value that is to be replaced, if nobody else does meanwhile. */
typedef struct {
    int32_t handle;
} mote_swap;

/* Reads a value in order to replace it. */
mote_result mote_swap_begin(mote_bucket bucket, const char *key, mote_swap *swap);
/* The value as it was read. */
mote_result mote_swap_current(const mote_swap *swap, mote_text *value);
/* Writes it. MOTE_NONE: somebody else was faster, and `swap` has what they wrote, to try again with. */
mote_result mote_swap_end(mote_swap *swap, const void *value, size_t length);

/* ---- Calls of other functions of the same app ---- */

typedef struct {
    const char *function; /* "lamp" */
    const char *method;   /* NULL is "GET" */
    const char *target;   /* path and query after the function's name; NULL is none */
    const mote_header *headers;
    size_t header_count;
    const void *body;
    size_t body_length;
} mote_call;

/* Its own 5xx is an answer, not a failure. */
typedef struct {
    int status;
    const mote_header *headers;
    size_t header_count;
    mote_text body;
} mote_answer;

/* A call that runs. */
typedef struct {
    int32_t handle;
} mote_pending;

/* Calls and waits. */
mote_result mote_invoke(const mote_call *call, mote_answer *answer);
/* Begins a call, so that several run at once; ended by mote_wait or mote_drop. */
mote_result mote_start(const mote_call *call, mote_pending *pending);
mote_result mote_wait(mote_pending pending, mote_answer *answer);
/* Ends a call that nobody waits for any more. */
void mote_drop(mote_pending pending);
/* Hands a call over to the node, which runs it later; `id` may be NULL. */
mote_result mote_spawn(const mote_call *call, mote_text *id);

#ifdef __cplusplus
}
#endif

#endif
