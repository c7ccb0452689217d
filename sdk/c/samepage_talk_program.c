/* samepage_talk_program.c - see samepage_talk.h: lines from standard input, answers to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samepage_talk.h"

static char line[64 << 10];

void sp_talk_say(const char *text, uint32_t bytes) {
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
}

_Noreturn void sp_talk_fail(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

int main(void) {
    sp_talk_open();
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        sp_talk_turn(line, (uint32_t)strlen(line));
        sp_talk_say("\n", 1);
    }
    return 0;
}
