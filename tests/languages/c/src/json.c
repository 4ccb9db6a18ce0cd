#include "json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

struct reader {
    const char *at, *end;
};

static void spaces(struct reader *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) && *in->at)
        in->at++;
}

/* Takes a letter, after spaces. */
static bool take(struct reader *in, char letter)
{
    spaces(in);
    if (in->at == in->end || *in->at != letter)
        return false;
    in->at++;
    return true;
}

static bool word(struct reader *in, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
        return false;
    in->at += length;
    return true;
}

static int hex(struct reader *in)
{
    int value = 0;
    for (int digit = 0; digit < 4; digit++, in->at++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *found;
        if (in->at == in->end || !*in->at || !(found = strchr(digits, *in->at)))
            return -1;
        value = value << 4 | ((int)(found - digits) & 15);
    }
    return value;
}

static char *utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 63));
        *out++ = (char)(0x80 | (code & 63));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 63));
        *out++ = (char)(0x80 | (code >> 6 & 63));
        *out++ = (char)(0x80 | (code & 63));
    }
    return out;
}

/* A text. What comes out is never longer than what went in. */
static bool string(struct reader *in, char **text, size_t *length)
{
    if (!take(in, '"'))
        return false;
    char *out = *text = malloc((size_t)(in->end - in->at) + 1);
    while (in->at < in->end) {
        unsigned char letter = (unsigned char)*in->at++;
        if (letter == '"') {
            *length = (size_t)(out - *text);
            return true;
        }
        if (letter < 0x20)
            return false;
        if (letter != '\\') {
            *out++ = (char)letter;
            continue;
        }
        if (in->at == in->end)
            return false;
        const char *escapes = "\"\\/bfnrt", *values = "\"\\/\b\f\n\r\t", *found;
        letter = (unsigned char)*in->at++;
        if (letter == 'u') {
            int code = hex(in), low;
            if (code < 0)
                return false;
            if (code >= 0xd800 && code < 0xdc00) {
                if (!word(in, "\\u") || (low = hex(in)) < 0xdc00 || low > 0xdfff)
                    return false;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            out = utf8(out, (uint32_t)code);
        } else if (letter && (found = strchr(escapes, letter))) {
            *out++ = values[found - escapes];
        } else {
            return false;
        }
    }
    return false;
}

/* A number; whether it is a whole one goes to `whole`. */
static bool number(struct reader *in, int64_t *value, bool *whole)
{
    spaces(in);
    char digits[40];
    size_t length = 0;
    while (in->at < in->end && *in->at && strchr("+-0123456789.eE", *in->at) && length + 1 < sizeof digits)
        digits[length++] = *in->at++;
    digits[length] = 0;
    char *rest;
    strtod(digits, &rest);
    if (!length || *rest)
        return false;
    *value = strtoll(digits, &rest, 10);
    *whole = !*rest;
    return true;
}

/* Any value, passed over. */
static bool skip(struct reader *in, int depth)
{
    char *text;
    size_t length;
    int64_t value;
    bool whole;
    if (depth > DEPTH_MAX)
        return false;
    spaces(in);
    if (in->at == in->end)
        return false;
    if (*in->at == '"')
        return string(in, &text, &length);
    if (take(in, '[')) {
        if (take(in, ']'))
            return true;
        do {
            if (!skip(in, depth + 1))
                return false;
        } while (take(in, ','));
        return take(in, ']');
    }
    if (take(in, '{')) {
        if (take(in, '}'))
            return true;
        do {
            if (!string(in, &text, &length) || !take(in, ':') || !skip(in, depth + 1))
                return false;
        } while (take(in, ','));
        return take(in, '}');
    }
    return word(in, "true") || word(in, "false") || word(in, "null") || number(in, &value, &whole);
}

static bool numbers(struct reader *in, int64_t *sum)
{
    int64_t value;
    bool whole;
    *sum = 0;
    if (!take(in, '['))
        return false;
    if (take(in, ']'))
        return true;
    do {
        if (!number(in, &value, &whole) || !whole)
            return false;
        *sum += value;
    } while (take(in, ','));
    return take(in, ']');
}

const char *read_greeting(const char *text, size_t length, struct greeting *greeting)
{
    struct reader in = {text, text + length};
    bool has_name = false, has_numbers = false;
    if (!take(&in, '{'))
        return "no object";
    if (!take(&in, '}')) {
        do {
            char *key;
            size_t key_length;
            if (!string(&in, &key, &key_length) || !take(&in, ':'))
                return "no key";
            if (key_length == 4 && memcmp(key, "name", 4) == 0) {
                has_name = string(&in, &greeting->name, &greeting->name_length);
                if (!has_name)
                    return "`name` is no text";
            } else if (key_length == 7 && memcmp(key, "numbers", 7) == 0) {
                has_numbers = numbers(&in, &greeting->sum);
                if (!has_numbers)
                    return "`numbers` are no whole numbers";
            } else if (!skip(&in, 0)) {
                return "no value";
            }
        } while (take(&in, ','));
        if (!take(&in, '}'))
            return "no end";
    }
    spaces(&in);
    if (in.at != in.end)
        return "more than an object";
    return has_name && has_numbers ? NULL : "`name` and `numbers` are needed";
}

void write_escaped(const char *text, size_t length, void (*write)(const void *, size_t))
{
    for (size_t at = 0; at < length; at++) {
        unsigned char letter = (unsigned char)text[at];
        const char *values = "\"\\\b\f\n\r\t", *escapes = "\"\\bfnrt", *found = letter ? strchr(values, letter) : NULL;
        if (found) {
            char escape[2] = {'\\', escapes[found - values]};
            write(escape, 2);
        } else if (letter < 0x20) {
            const char *digits = "0123456789abcdef";
            char escape[6] = {'\\', 'u', '0', '0', digits[letter >> 4], digits[letter & 15]};
            write(escape, 6);
        } else {
            write(text + at, 1);
        }
    }
}
