/*
 * Key-value data: wasi:keyvalue by hand. Each result struct below is the layout of one.
 */
#include "abi.h"

#define STORE "wasi:keyvalue/store@0.2.0-draft2"
#define ATOMICS "wasi:keyvalue/atomics@0.2.0-draft2"

typedef struct {
    uint8_t kind;
    text words;
} store_error;

static mote_result failed(store_error error)
{
    switch (error.kind) {
    case 0:
        mote_last_error = "there is no bucket of this name";
        mote_last_kind = MOTE_NOT_FOUND;
        break;
    case 1:
        mote_last_error = "key-value data is not granted: write allow.keyvalue = true into mote.toml";
        mote_last_kind = MOTE_FORBIDDEN;
        break;
    default:
        mote_last_error = given(error.words).data;
        mote_last_kind = MOTE_INTERNAL;
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
