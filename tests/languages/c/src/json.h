/* The little JSON that the function needs: C has none of its own. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>

struct greeting {
    char *name;
    size_t name_length;
    int64_t sum;
};

/* Reads {"name": "…", "numbers": [1, …]}; other keys may be there. Gives what is wrong, or NULL. */
const char *read_greeting(const char *text, size_t length, struct greeting *greeting);

/* Writes the inside of a JSON text. */
void write_escaped(const char *text, size_t length, void (*write)(const void *, size_t));

#endif
