/*
 * The canonical ABI of the world `mote:function/function`, by hand: what the node calls, and what it is asked.
 *
 * A result comes back in a few words of memory, each struct below is the layout of one. Blocks that the node asks for,
 * and those made here, are in one list, which is freed when the reply has gone.
 */
#include "mote.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(module, name) __attribute__((__import_module__(module), __import_name__(name)))
#define EXPORT(name) __attribute__((__export_name__(name)))

#define REQUEST "mote:function/request@0.1.1"
#define RESPONSE "mote:function/response@0.1.1"
#define LOG "mote:function/log@0.1.1"
#define CALL "mote:function/call@0.1.1"
#define CONFIG "wasi:config/store@0.2.0-rc.1"
#define STORE "wasi:keyvalue/store@0.2.0-draft2"
#define ATOMICS "wasi:keyvalue/atomics@0.2.0-draft2"

/* Text and lists as the node passes them. */
typedef struct {
    char *data;
    size_t length;
} text;
typedef struct {
    text name, value;
} pair;
typedef struct {
    pair *items;
    size_t length;
} pairs;
typedef struct {
    uint8_t is_some;
    text value;
} optional;

/* ---- Memory of a call ---- */

typedef struct block {
    struct block *next, *previous;
    /* Aligned for anything. */
    max_align_t data[];
} block;

static block *blocks;

static void *keep(void *old, size_t size)
{
    block *before = old ? (block *)((char *)old - offsetof(block, data)) : NULL;
    block *now = realloc(before, offsetof(block, data) + size + 1);
    if (!now)
        abort();
    if (!before) {
        now->previous = NULL;
        now->next = blocks;
        blocks = now;
    } else if (now->previous) {
        now->previous->next = now;
    } else {
        blocks = now;
    }
    if (now->next)
        now->next->previous = now;
    char *data = (char *)now->data;
    /* Every text ends with a zero. */
    data[size] = 0;
    return data;
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size)
{
    (void)old_size, (void)align;
    return keep(old_size ? old : NULL, size);
}

static mote_text given(text from)
{
    return from.length ? (mote_text){from.data, from.length} : (mote_text){"", 0};
}

static mote_text literal(const char *from)
{
    return from ? (mote_text){from, strlen(from)} : (mote_text){"", 0};
}

static mote_text formatted(const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *data = keep(NULL, length < 0 ? 0 : (size_t)length);
    if (length > 0)
        vsnprintf(data, (size_t)length + 1, format, again);
    va_end(again);
    return (mote_text){data, length < 0 ? 0 : (size_t)length};
}

/* ---- The call ---- */

static struct {
    char *data;
    size_t length, room;
    bool failed;
} reply;

static struct {
    uint8_t is_err;
    text value;
} result;

EXPORT("handle") void *mote_export_handle(char *body, size_t length)
{
    handle(given((text){body, length}));
    result.is_err = reply.failed;
    result.value = (text){reply.data, reply.length};
    return &result;
}

EXPORT("cabi_post_handle") void mote_export_post_handle(void *unused)
{
    (void)unused;
    while (blocks) {
        block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
    memset(&reply, 0, sizeof reply);
}

/* ---- The request ---- */

IMPORT(REQUEST, "method") void host_method(text *);
IMPORT(REQUEST, "path") void host_path(text *);
IMPORT(REQUEST, "query") void host_query(optional *);
IMPORT(REQUEST, "header") void host_header(const char *, size_t, optional *);
IMPORT(REQUEST, "headers") void host_headers(pairs *);
IMPORT(REQUEST, "id") void host_id(text *);

mote_text mote_method(void)
{
    text out;
    host_method(&out);
    return given(out);
}

mote_text mote_path(void)
{
    text out;
    host_path(&out);
    return given(out);
}

mote_text mote_query(void)
{
    optional out;
    host_query(&out);
    return out.is_some ? given(out.value) : literal("");
}

mote_text mote_call_id(void)
{
    text out;
    host_id(&out);
    return given(out);
}

bool mote_get_header(const char *name, mote_text *value)
{
    optional out;
    host_header(name, strlen(name), &out);
    if (out.is_some)
        *value = given(out.value);
    return out.is_some;
}

static size_t give_pairs(pairs from, const mote_header **headers)
{
    mote_header *out = (mote_header *)from.items;
    for (size_t i = 0; i < from.length; i++)
        out[i] = (mote_header){given(from.items[i].name), given(from.items[i].value)};
    *headers = out;
    return from.length;
}

size_t mote_headers(const mote_header **headers)
{
    pairs out;
    host_headers(&out);
    return give_pairs(out, headers);
}

static int hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Undoes percent-encoding and '+'; what is none stays as it is. */
static mote_text decoded(const char *from, size_t length)
{
    char *out = keep(NULL, length);
    size_t end = 0;
    for (size_t i = 0; i < length; i++) {
        bool encoded = from[i] == '%' && i + 2 < length && hex(from[i + 1]) >= 0 && hex(from[i + 2]) >= 0;
        if (encoded) {
            out[end++] = (char)(hex(from[i + 1]) << 4 | hex(from[i + 2]));
            i += 2;
        } else {
            out[end++] = from[i] == '+' ? ' ' : from[i];
        }
    }
    out[end] = 0;
    return (mote_text){out, end};
}

mote_text mote_query_value(const char *name, const char *otherwise)
{
    mote_text query = mote_query();
    size_t wanted = strlen(name);
    const char *end = query.data + query.length;
    for (const char *item = query.data; item < end;) {
        const char *next = memchr(item, '&', (size_t)(end - item));
        next = next ? next : end;
        const char *equals = memchr(item, '=', (size_t)(next - item));
        mote_text key = decoded(item, (size_t)((equals ? equals : next) - item));
        if (key.length == wanted && memcmp(key.data, name, wanted) == 0)
            return equals ? decoded(equals + 1, (size_t)(next - equals - 1)) : literal("");
        item = next + 1;
    }
    return literal(otherwise);
}

/* ---- The reply ---- */

IMPORT(RESPONSE, "set-status") void host_set_status(int32_t);
IMPORT(RESPONSE, "set-header") void host_set_header(const char *, size_t, const char *, size_t);
IMPORT(RESPONSE, "publish") void host_publish(void);

void mote_status(int status)
{
    host_set_status(status);
}

void mote_set_header(const char *name, const char *value)
{
    host_set_header(name, strlen(name), value, strlen(value));
}

void mote_publish(void)
{
    host_publish();
}

void mote_write(const void *data, size_t length)
{
    if (reply.failed || !length)
        return;
    if (reply.room - reply.length < length) {
        reply.room = reply.room * 2 > reply.length + length ? reply.room * 2 : reply.length + length;
        reply.data = keep(reply.data, reply.room);
    }
    memcpy(reply.data + reply.length, data, length);
    reply.length += length;
}

void mote_print(const char *text)
{
    mote_write(text, strlen(text));
}

void mote_printf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mote_text text = formatted(format, arguments);
    va_end(arguments);
    mote_write(text.data, text.length);
}

void mote_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mote_text why = formatted(format, arguments);
    va_end(arguments);
    reply.length = 0;
    mote_write(why.data, why.length);
    reply.failed = true;
}

/* ---- Log and configuration ---- */

IMPORT(LOG, "log") void host_log(int32_t, const char *, size_t);

void mote_log(mote_level level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    mote_text line = formatted(format, arguments);
    va_end(arguments);
    host_log(level, line.data, line.length);
}

typedef struct {
    uint8_t is_err;
    /* Of an error: which, and its words. */
    optional value;
} config_result;

IMPORT(CONFIG, "get") void host_config_get(const char *, size_t, config_result *);

mote_text mote_config(const char *key, const char *otherwise)
{
    config_result out;
    host_config_get(key, strlen(key), &out);
    return !out.is_err && out.value.is_some ? given(out.value.value) : literal(otherwise);
}

/* ---- Key-value data ---- */

typedef struct {
    uint8_t kind;
    text words;
} store_error;

static const char *last_error = "";

const char *mote_error(void)
{
    return last_error;
}

static mote_result failed(store_error error)
{
    switch (error.kind) {
    case 0:
        last_error = "there is no bucket of this name";
        break;
    case 1:
        last_error = "key-value data is not granted: write allow.keyvalue = true into mote.toml";
        break;
    default:
        last_error = given(error.words).data;
    }
    return MOTE_FAILED;
}

typedef struct {
    uint8_t is_err;
    union {
        int32_t handle;
        uint8_t yes;
        optional value;
        store_error error;
    };
} store_result;

typedef struct {
    uint8_t is_err;
    union {
        struct {
            text *keys;
            size_t count;
            optional cursor;
        };
        store_error error;
    };
} keys_result;

typedef struct {
    uint8_t is_err;
    union {
        int64_t now;
        store_error error;
    };
} increment_result;

typedef struct {
    uint8_t is_err;
    struct {
        uint8_t is_lost;
        union {
            store_error error;
            int32_t again;
        };
    } why;
} swap_result;

IMPORT(STORE, "open") void host_open(const char *, size_t, store_result *);
IMPORT(STORE, "[resource-drop]bucket") void host_close(int32_t);
IMPORT(STORE, "[method]bucket.get") void host_get(int32_t, const char *, size_t, store_result *);
IMPORT(STORE, "[method]bucket.set") void host_set(int32_t, const char *, size_t, const void *, size_t, store_result *);
IMPORT(STORE, "[method]bucket.delete") void host_delete(int32_t, const char *, size_t, store_result *);
IMPORT(STORE, "[method]bucket.list-keys") void host_keys(int32_t, int32_t, const char *, size_t, keys_result *);
IMPORT(ATOMICS, "increment") void host_increment(int32_t, const char *, size_t, int64_t, increment_result *);
IMPORT(ATOMICS, "[static]cas.new") void host_swap_begin(int32_t, const char *, size_t, store_result *);
IMPORT(ATOMICS, "[method]cas.current") void host_swap_current(int32_t, store_result *);
IMPORT(ATOMICS, "swap") void host_swap_end(int32_t, const void *, size_t, swap_result *);

mote_result mote_open(const char *name, mote_bucket *bucket)
{
    store_result out;
    host_open(name, strlen(name), &out);
    if (out.is_err)
        return failed(out.error);
    bucket->handle = out.handle;
    return MOTE_OK;
}

void mote_close(mote_bucket bucket)
{
    host_close(bucket.handle);
}

static mote_result give_value(store_result from, mote_text *value)
{
    if (from.is_err)
        return failed(from.error);
    if (!from.value.is_some)
        return MOTE_NONE;
    *value = given(from.value.value);
    return MOTE_OK;
}

mote_result mote_get(mote_bucket bucket, const char *key, mote_text *value)
{
    store_result out;
    host_get(bucket.handle, key, strlen(key), &out);
    return give_value(out, value);
}

mote_result mote_set(mote_bucket bucket, const char *key, const void *value, size_t length)
{
    store_result out;
    host_set(bucket.handle, key, strlen(key), value, length, &out);
    return out.is_err ? failed(out.error) : MOTE_OK;
}

mote_result mote_set_text(mote_bucket bucket, const char *key, const char *value)
{
    return mote_set(bucket, key, value, strlen(value));
}

mote_result mote_delete(mote_bucket bucket, const char *key)
{
    store_result out;
    host_delete(bucket.handle, key, strlen(key), &out);
    return out.is_err ? failed(out.error) : MOTE_OK;
}

mote_result mote_increment(mote_bucket bucket, const char *key, int64_t by, int64_t *now)
{
    increment_result out;
    host_increment(bucket.handle, key, strlen(key), by, &out);
    if (out.is_err)
        return failed(out.error);
    if (now)
        *now = out.now;
    return MOTE_OK;
}

mote_result mote_keys(mote_bucket bucket, mote_text *cursor, const mote_text **keys, size_t *count)
{
    keys_result out;
    host_keys(bucket.handle, cursor->length != 0, cursor->data, cursor->length, &out);
    if (out.is_err)
        return failed(out.error);
    mote_text *texts = (mote_text *)out.keys;
    for (size_t i = 0; i < out.count; i++)
        texts[i] = given(out.keys[i]);
    *keys = texts;
    *count = out.count;
    *cursor = out.cursor.is_some ? given(out.cursor.value) : literal("");
    return MOTE_OK;
}

mote_result mote_swap_begin(mote_bucket bucket, const char *key, mote_swap *swap)
{
    store_result out;
    host_swap_begin(bucket.handle, key, strlen(key), &out);
    if (out.is_err)
        return failed(out.error);
    swap->handle = out.handle;
    return MOTE_OK;
}

mote_result mote_swap_current(const mote_swap *swap, mote_text *value)
{
    store_result out;
    host_swap_current(swap->handle, &out);
    return give_value(out, value);
}

mote_result mote_swap_end(mote_swap *swap, const void *value, size_t length)
{
    swap_result out;
    host_swap_end(swap->handle, value, length, &out);
    if (!out.is_err)
        return MOTE_OK;
    if (!out.why.is_lost)
        return failed(out.why.error);
    swap->handle = out.why.again;
    return MOTE_NONE;
}

/* ---- Calls ---- */

typedef struct {
    uint16_t status;
    pairs headers;
    text body;
} call_reply;

typedef struct {
    uint8_t kind;
    text message;
} call_error;

typedef struct {
    uint8_t is_err;
    union {
        call_reply reply;
        call_error error;
    };
} answer_result;

typedef struct {
    uint8_t is_err;
    union {
        int32_t handle;
        text id;
        call_error error;
    };
} started_result;

#define CALL_PARAMETERS                                                                                                \
    const char *, size_t, const char *, size_t, const char *, size_t, const void *, size_t, const void *, size_t

IMPORT(CALL, "invoke") void host_invoke(CALL_PARAMETERS, answer_result *);
IMPORT(CALL, "start") void host_start(CALL_PARAMETERS, started_result *);
IMPORT(CALL, "spawn") void host_spawn(CALL_PARAMETERS, started_result *);
IMPORT(CALL, "[method]pending.wait") void host_wait(int32_t, answer_result *);
IMPORT(CALL, "[resource-drop]pending") void host_drop(int32_t);

/* A header here has the layout that the node takes. */
#define CALL_ARGUMENTS(call)                                                                                           \
    (call)->function, strlen((call)->function), method((call)->method), strlen(method((call)->method)),                \
        literal((call)->target).data, literal((call)->target).length, (call)->headers, (call)->header_count,           \
        (call)->body, (call)->body_length

static const char *method(const char *given)
{
    return given ? given : "GET";
}

static mote_result call_failed(call_error error)
{
    last_error = given(error.message).data;
    return MOTE_FAILED;
}

static mote_result give_answer(answer_result from, mote_answer *answer)
{
    if (from.is_err)
        return call_failed(from.error);
    answer->status = from.reply.status;
    answer->header_count = give_pairs(from.reply.headers, &answer->headers);
    answer->body = given(from.reply.body);
    return MOTE_OK;
}

mote_result mote_invoke(const mote_call *call, mote_answer *answer)
{
    answer_result out;
    host_invoke(CALL_ARGUMENTS(call), &out);
    return give_answer(out, answer);
}

mote_result mote_start(const mote_call *call, mote_pending *pending)
{
    started_result out;
    host_start(CALL_ARGUMENTS(call), &out);
    if (out.is_err)
        return call_failed(out.error);
    pending->handle = out.handle;
    return MOTE_OK;
}

mote_result mote_wait(mote_pending pending, mote_answer *answer)
{
    answer_result out;
    host_wait(pending.handle, &out);
    host_drop(pending.handle);
    return give_answer(out, answer);
}

void mote_drop(mote_pending pending)
{
    host_drop(pending.handle);
}

mote_result mote_spawn(const mote_call *call, mote_text *id)
{
    started_result out;
    host_spawn(CALL_ARGUMENTS(call), &out);
    if (out.is_err)
        return call_failed(out.error);
    if (id)
        *id = given(out.id);
    return MOTE_OK;
}
