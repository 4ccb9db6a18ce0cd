/* Every part of the SDK once; the last part of the path says which. */
#include "mote.h"

#include <string.h>

static const char *quoted(bool there, mote_text text)
{
    static char out[4][128];
    static int next;
    char *to = out[next++ % 4];
    if (!there)
        return "None";
    strcpy(to, "Some(\"");
    strncat(to, text.data, 100);
    return strcat(to, "\")");
}

static const char *setting(const char *key)
{
    mote_text value = mote_config(key, NULL);
    return quoted(value.length != 0, value);
}

static void request(mote_text body)
{
    const mote_header *headers;
    size_t count = mote_headers(&headers), twos = 0;
    for (size_t i = 0; i < count; i++)
        twos += strcmp(headers[i].name.data, "x-two") == 0;
    mote_text query = mote_query(), a = mote_query_value("a", NULL), one;
    bool has_one = mote_get_header("X-One", &one);
    mote_printf("%s %s %s %s %s %zu %zu %s", mote_method().data, mote_path().data, quoted(query.length, query),
                quoted(a.length, a), quoted(has_one, one), twos, mote_call_id().length, body.data);
}

#define CHECK(asked)                                                                                                   \
    if ((asked) == MOTE_FAILED) {                                                                                      \
        mote_fail("%s", mote_error());                                                                                 \
        return;                                                                                                        \
    }

static void data(void)
{
    mote_bucket bucket;
    CHECK(mote_open("default", &bucket));
    mote_text value = {"", 0};
    mote_result found = mote_get(bucket, "a", &value);
    CHECK(found);
    mote_print(quoted(found, value));
    CHECK(mote_set_text(bucket, "a", "one"));
    CHECK(mote_set(bucket, "b", "\0\377", 2));
    CHECK(mote_get(bucket, "a", &value));
    mote_printf(" %s", quoted(true, value));
    CHECK(mote_get(bucket, "b", &value));
    mote_printf(" Some([%d, %d])", (unsigned char)value.data[0], (unsigned char)value.data[1]);
    mote_printf(" %s", mote_get(bucket, "c", &value) == MOTE_OK ? "true" : "false");
    int64_t number;
    for (int i = 0; i < 2; i++) {
        CHECK(mote_increment(bucket, "n", i ? -7 : 5, &number));
        mote_printf(" %lld", (long long)number);
    }
    mote_text cursor = {"", 0};
    const mote_text *keys;
    size_t count;
    CHECK(mote_keys(bucket, &cursor, &keys, &count));
    for (size_t i = 0; i < count; i++)
        mote_printf("%s\"%s\"", i ? ", " : " [", keys[i].data);
    mote_print("]");
    mote_swap swap;
    CHECK(mote_swap_begin(bucket, "a", &swap));
    CHECK(mote_set_text(bucket, "a", "two"));
    if (mote_swap_end(&swap, "mine", 4) != MOTE_NONE) {
        mote_fail("nobody was faster");
        return;
    }
    CHECK(mote_swap_current(&swap, &value));
    mote_printf(" Some(%zu)", value.length);
    mote_printf(" %s", mote_swap_end(&swap, "three", 5) == MOTE_OK ? "true" : "false");
    CHECK(mote_get(bucket, "a", &value));
    mote_printf(" %s", quoted(true, value));
    const char *all[] = {"a", "b", "n", "nothing"};
    for (int i = 0; i < 4; i++)
        CHECK(mote_delete(bucket, all[i]));
    mote_close(bucket);
}

static void call(void)
{
    mote_header one = {{"x-one", 5}, {"1", 1}};
    mote_call ask = {.function = "everything", .method = "POST", .target = "/request?a=1", .headers = &one,
                     .header_count = 1, .body = "one", .body_length = 3};
    mote_pending first, second;
    mote_answer answer;
    mote_text id;
    CHECK(mote_start(&ask, &first));
    CHECK(mote_start(&(mote_call){.function = "everything", .method = "POST", .target = "/reply"}, &second));
    mote_answer reply;
    CHECK(mote_wait(second, &reply));
    CHECK(mote_spawn(&(mote_call){.function = "everything", .target = "/log"}, &id));
    CHECK(mote_wait(first, &answer));
    mote_printf("%s | %d ", answer.body.data, reply.status);
    for (size_t i = 0; i < reply.header_count; i++)
        if (strcmp(reply.headers[i].name.data, "x-out") == 0) {
            mote_printf("%s %s", quoted(true, reply.headers[i].value), reply.body.data);
            break;
        }
    CHECK(mote_invoke(&(mote_call){.function = "everything", .target = "/fail"}, &answer));
    mote_printf(" | %s | %d", id.length ? "true" : "false", answer.status);
}

void handle(mote_text body)
{
    const char *path = mote_path().data;
    mote_set_header("content-type", "text/plain; charset=utf-8");
    if (strcmp(path, "/request") == 0) {
        request(body);
    } else if (strcmp(path, "/reply") == 0) {
        mote_set_header("content-type", "text/html; charset=utf-8");
        mote_status(201);
        mote_set_header("x-out", "a");
        mote_add_header("x-out", "b");
        mote_publish();
        mote_print("<p>");
    } else if (strcmp(path, "/fail") == 0) {
        mote_print("not this");
        mote_fail("no %s", "luck");
    } else if (strcmp(path, "/panic") == 0) {
        mote_log(MOTE_ERROR, "out of luck");
        __builtin_trap();
    } else if (strcmp(path, "/log") == 0) {
        mote_log(MOTE_TRACE, "one %d", 1);
        mote_log(MOTE_DEBUG, "two");
        mote_log(MOTE_INFO, "three");
        mote_log(MOTE_WARN, "four");
        mote_log(MOTE_ERROR, "five");
        mote_status(204);
    } else if (strcmp(path, "/config") == 0) {
        mote_printf("%s %s 1", setting("ROOM"), setting("NONE"));
    } else if (strcmp(path, "/data") == 0) {
        data();
    } else if (strcmp(path, "/call") == 0) {
        call();
    } else if (strcmp(path, "/call-nobody") == 0) {
        mote_answer answer;
        mote_result asked = mote_invoke(&(mote_call){.function = "nobody"}, &answer);
        mote_print(asked == MOTE_FAILED && strstr(mote_error(), "nobody") ? "NotFound" : "found");
    } else {
        mote_status(404);
    }
}
