/*
 * The canonical ABI of the world `mote:function/function`, by hand: what the node calls, and what it is asked.
 *
 * A result comes back in a few words of memory, each struct below is the layout of one. Blocks that the node asks for,
 * and those made here, are in one list, which is freed when the reply has gone.
 */
#include "abi.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define REQUEST "mote:function/request@0.1.1"
#define RESPONSE "mote:function/response@0.1.1"
#define LOG "mote:function/log@0.1.1"
#define CONFIG "wasi:config/store@0.2.0-rc.1"

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

typedef struct field {
    struct field *next;
    mote_text name, value;
} field;

static struct {
    char *data;
    size_t length, room;
    bool failed;
    field *headers;
} reply;

static struct {
    uint8_t is_err;
    text value;
} result;

IMPORT(RESPONSE, "set-status") void host_set_status(int32_t);
IMPORT(RESPONSE, "set-header") void host_set_header(const char *, size_t, const char *, size_t);
IMPORT(RESPONSE, "publish") void host_publish(void);

EXPORT("handle") void *mote_export_handle(char *body, size_t length)
{
    handle(given((text){body, length}));
    for (field *header = reply.headers; header; header = header->next)
        host_set_header(header->name.data, header->name.length, header->value.data, header->value.length);
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

void mote_status(int status)
{
    host_set_status(status);
}

static mote_text copied(const char *from)
{
    size_t length = strlen(from);
    return (mote_text){memcpy(keep(NULL, length), from, length), length};
}

void mote_add_header(const char *name, const char *value)
{
    field **end = &reply.headers;
    while (*end)
        end = &(*end)->next;
    *end = keep(NULL, sizeof **end);
    **end = (field){NULL, copied(name), copied(value)};
}

void mote_set_header(const char *name, const char *value)
{
    for (field **header = &reply.headers; *header;) {
        if (strcasecmp((*header)->name.data, name) == 0)
            *header = (*header)->next;
        else
            header = &(*header)->next;
    }
    mote_add_header(name, value);
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

/* ---- Failures ---- */

const char *mote_last_error = "";
mote_kind mote_last_kind = MOTE_INTERNAL;

const char *mote_error(void)
{
    return mote_last_error;
}

mote_kind mote_error_kind(void)
{
    return mote_last_kind;
}
