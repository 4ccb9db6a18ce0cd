/* The function that every language has: see the table in README.md of the folder above. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "mote.h"

static bool is(mote_text text, const char *word)
{
    return strcmp(text.data, word) == 0;
}

static const char *after(mote_text path, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(path.data, prefix, length) == 0 ? path.data + length : NULL;
}

static void refuse(int status, const char *why)
{
    mote_status(status);
    mote_print(why);
}

static const char *or_dash(mote_text text)
{
    return text.length ? text.data : "-";
}

static void echo(mote_text body)
{
    mote_text kind;
    if (mote_get_header("content-type", &kind))
        mote_set_header("content-type", kind.data);
    mote_write(body.data, body.length);
}

static void sum(mote_text body)
{
    struct greeting greeting = {0};
    const char *wrong = read_greeting(body.data, body.length, &greeting);
    if (wrong) {
        mote_status(400);
        mote_printf("bad JSON: %s", wrong);
        return;
    }
    mote_set_header("content-type", "application/json");
    mote_print("{\"greeting\":\"hello, ");
    write_escaped(greeting.name, greeting.name_length, mote_write);
    mote_printf("\",\"sum\":%lld}", (long long)greeting.sum);
}

static void headers(void)
{
    mote_text test = {"", 0};
    mote_get_header("x-test", &test);
    mote_printf("x-test: %s\nx-many: ", or_dash(test));
    const mote_header *all;
    size_t count = mote_headers(&all), many = 0;
    for (size_t at = 0; at < count; at++)
        if (is(all[at].name, "x-many"))
            mote_printf("%s%s", many++ ? ", " : "", all[at].value.data);
    mote_print(many ? "\n" : "-\n");
    mote_set_header("x-reply", "yes");
    mote_add_header("x-several", "one");
    mote_add_header("x-several", "two");
}

static void where(void)
{
    mote_text name = mote_query_value("name", "");
    mote_printf("%s\n%s\n", mote_method().data, mote_path().data);
    mote_printf("%s\n%s\n", or_dash(mote_query()), or_dash(name));
}

static void sibling(const char *what, mote_text body)
{
    mote_answer answer;
    mote_call call = {.function = "sibling", .method = "POST", .target = "/echo"};
    if (strcmp(what, "invoke") == 0) {
        mote_header kind = {{"content-type", 12}, {"text/x-sibling", 14}};
        call.headers = &kind;
        call.header_count = 1;
        call.body = body.data;
        call.body_length = body.length;
        if (mote_invoke(&call, &answer) != MOTE_OK)
            return mote_fail("%s", mote_error());
        const char *found = "";
        for (size_t at = 0; at < answer.header_count; at++)
            if (is(answer.headers[at].name, "content-type"))
                found = answer.headers[at].value.data;
        mote_printf("%d %s ", answer.status, found);
        mote_write(answer.body.data, answer.body.length);
    } else if (strcmp(what, "both") == 0) {
        mote_pending pending[2];
        const char *bodies[2] = {"one", "two"};
        for (int at = 0; at < 2; at++) {
            call.body = bodies[at];
            call.body_length = 3;
            if (mote_start(&call, &pending[at]) != MOTE_OK)
                return mote_fail("%s", mote_error());
        }
        for (int at = 0; at < 2; at++) {
            if (mote_wait(pending[at], &answer) != MOTE_OK)
                return mote_fail("%s", mote_error());
            mote_print(at ? " " : "");
            mote_write(answer.body.data, answer.body.length);
        }
    } else if (strcmp(what, "spawn") == 0) {
        call.method = "PUT";
        call.target = "/kv/spawned";
        call.body = body.data;
        call.body_length = body.length;
        mote_text id;
        if (mote_spawn(&call, &id) != MOTE_OK || id.length == 0)
            return mote_fail("not spawned: %s", mote_error());
        mote_print("spawned");
    } else if (strcmp(what, "status") == 0) {
        call.method = NULL;
        call.target = "/error";
        if (mote_invoke(&call, &answer) != MOTE_OK)
            return mote_fail("%s", mote_error());
        mote_printf("%d", answer.status);
    } else if (strcmp(what, "nobody") == 0) {
        call.function = "nobody";
        call.method = NULL;
        call.target = NULL;
        if (mote_invoke(&call, &answer) == MOTE_OK)
            return mote_fail("nobody answered");
        mote_print(mote_error_kind() == MOTE_NOT_FOUND ? "not-found" : mote_error());
    } else {
        refuse(404, "no such path");
    }
}

static void value(const char *key, mote_text body)
{
    mote_bucket bucket;
    mote_result result = mote_open("default", &bucket);
    mote_text method = mote_method(), found;
    if (result != MOTE_OK)
        return mote_fail("%s", mote_error());
    if (is(method, "PUT")) {
        result = mote_set(bucket, key, body.data, body.length);
        mote_print("set");
    } else if (is(method, "DELETE")) {
        result = mote_delete(bucket, key);
        mote_print("deleted");
    } else if (is(method, "POST")) {
        int64_t now = 0;
        result = mote_increment(bucket, key, strtoll(mote_query_value("by", "0").data, NULL, 10), &now);
        mote_printf("%lld", (long long)now);
    } else {
        result = mote_get(bucket, key, &found);
        if (result == MOTE_OK)
            mote_write(found.data, found.length);
        else if (result == MOTE_NONE)
            refuse(404, "no such key");
    }
    if (result == MOTE_FAILED)
        mote_fail("%s", mote_error());
}

static void keys(void)
{
    mote_bucket bucket;
    mote_text cursor = {"", 0};
    const mote_text *some;
    size_t count;
    if (mote_open("default", &bucket) != MOTE_OK)
        return mote_fail("%s", mote_error());
    do {
        if (mote_keys(bucket, &cursor, &some, &count) == MOTE_FAILED)
            return mote_fail("%s", mote_error());
        for (size_t at = 0; at < count; at++)
            mote_printf("%s\n", some[at].data);
    } while (cursor.length);
}

void handle(mote_text body)
{
    mote_text path = mote_path();
    const char *rest;
    mote_set_header("content-type", "text/plain");
    if (is(path, "/echo"))
        echo(body);
    else if (is(path, "/json"))
        sum(body);
    else if (is(path, "/error"))
        mote_fail("no such luck");
    else if ((rest = after(path, "/status/"))) {
        mote_status(atoi(rest));
        mote_printf("status %d", atoi(rest));
    } else if (is(path, "/headers"))
        headers();
    else if (after(path, "/where"))
        where();
    else if (is(path, "/log")) {
        mote_log(MOTE_TRACE, "this is trace");
        mote_log(MOTE_DEBUG, "this is debug");
        mote_log(MOTE_INFO, "this is info");
        mote_log(MOTE_WARN, "this is warn");
        mote_log(MOTE_ERROR, "this is error");
        mote_print("logged");
    } else if (is(path, "/publish")) {
        mote_publish();
        mote_print("published ");
        mote_write(body.data, body.length);
    } else if ((rest = after(path, "/sibling/")))
        sibling(rest, body);
    else if (is(path, "/kv"))
        keys();
    else if ((rest = after(path, "/kv/")))
        value(rest, body);
    else if ((rest = after(path, "/config/"))) {
        mote_text setting = mote_config(rest, "");
        setting.length ? mote_print(setting.data) : refuse(404, "no such key");
    } else
        refuse(404, "no such path");
}
