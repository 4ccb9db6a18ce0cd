/*
 * What the parts of the SDK share: the canonical ABI as the node speaks it. Not for functions.
 */
#ifndef MOTE_ABI_H
#define MOTE_ABI_H

#include "mote.h"

#include <string.h>

#define IMPORT(module, name) __attribute__((__import_module__(module), __import_name__(name)))
#define EXPORT(name) __attribute__((__export_name__(name)))

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

/* The words of the last failure, and its kind. */
extern const char *mote_last_error;
extern mote_kind mote_last_kind;

static inline mote_text given(text from)
{
    return from.length ? (mote_text){from.data, from.length} : (mote_text){"", 0};
}

static inline mote_text literal(const char *from)
{
    return from ? (mote_text){from, strlen(from)} : (mote_text){"", 0};
}

/* Both have the same layout; only what is empty differs. */
static inline size_t give_pairs(pairs from, const mote_header **headers)
{
    mote_header *out = (mote_header *)from.items;
    for (size_t i = 0; i < from.length; i++)
        out[i] = (mote_header){given(from.items[i].name), given(from.items[i].value)};
    *headers = out;
    return from.length;
}

#endif
