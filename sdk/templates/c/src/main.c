/* Says hello to whoever is named in the query: /{{name}}?name=Ada */
#include "mote.h"

void handle(mote_text body)
{
    (void)body;
    mote_text name = mote_query_value("name", "world");
    mote_log(MOTE_INFO, "hello to %s", name.data);
    mote_set_header("content-type", "text/plain; charset=utf-8");
    mote_printf("hello, %s\n", name.data);
}
