/* samepage_talk_program.c - see samepage_talk.h: lines from standard input, answers to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samepage_talk.h"

static char line[64 << 10];

void sp_talk_say(const char *text, uint32_t bytes) {
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout)) {
        sp_talk_fail("cannot write to standard output");
    }
}

_Noreturn void sp_talk_fail(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

int main(void) {
    sp_talk_open();
    while (fgets(line, sizeof line, stdin)) {
        size_t bytes = strcspn(line, "\n");
        if (bytes == sizeof line - 1) {
            sp_talk_fail("a line is too long"); /* half of it would be another line */
        }
        line[bytes] = 0;
        sp_talk_turn(line, (uint32_t)bytes);
        sp_talk_say("\n", 1);
    }
    if (ferror(stdin)) {
        sp_talk_fail("cannot read standard input");
    }
    return 0;
}
