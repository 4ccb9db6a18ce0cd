/*
 * Calls of other functions: mote:function/call by hand. Each result struct below is the layout of one.
 */
#include "abi.h"

#define CALL "mote:function/call@0.1.1"

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
    mote_last_error = given(error.message).data;
    mote_last_kind = (mote_kind)error.kind;
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
