/* apps/signals.c - see signals.h.
 *
 * The handlers call what the system and samepage/guest.h allow in one, and nothing else.
 */
#include "apps/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* Longer than anything that a guest does between two looks at `interrupted`, short enough for who waits at a prompt. */
#define GRACE_US 200000

static _Atomic(sp_guest *) guest;
static atomic_uint seen_count, ended;
static atomic_bool reads_lines;
static struct sigaction old_interrupt, old_alarm;

/* The timer that every system has, and a system call on all of them: POSIX's own are missing on macOS. Raises
 * SIGALRM. */
static void arm_timer(void) {
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = GRACE_US}}, NULL);
}

/* The rest is the system's: the program ends by the signal, and a shell sees that it did. */
static void end_program(void) {
    struct sigaction plain;
    memset(&plain, 0, sizeof plain);
    plain.sa_handler = SIG_DFL;
    sigaction(SIGINT, &plain, NULL);
    if (atomic_load(&reads_lines) && write(STDOUT_FILENO, "\n", 1) < 0) {
        _exit(130);
    }
    raise(SIGINT);
}

static void end_guest(sp_guest *running) {
    if (atomic_load(&reads_lines) || atomic_fetch_add(&ended, 1)) {
        end_program();
    } else {
        sp_guest_terminate(running);
        arm_timer();
    }
}

static void on_interrupt(int signal) {
    (void)signal;
    sp_guest *running = atomic_load(&guest);
    if (!running) {
        return;
    }
    atomic_fetch_add(&seen_count, 1);
    if (sp_guest_has_interrupt(running)) {
        end_guest(running);
        return;
    }
    sp_guest_interrupt(running);
    arm_timer();
}

static void on_alarm(int signal) {
    (void)signal;
    sp_guest *running = atomic_load(&guest);
    if (!running || !sp_guest_has_interrupt(running)) {
        return;
    }
    if (sp_guest_is_computing(running)) {
        arm_timer();
    } else {
        end_guest(running);
    }
}

void spi_signals_catch(sp_guest *running, bool is_prompt) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGALRM);
    atomic_store(&reads_lines, is_prompt);
    atomic_store(&seen_count, 0);
    atomic_store(&ended, 0);
    atomic_store(&guest, running);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, &old_alarm);
    sigaction(SIGINT, NULL, &old_interrupt);
    if (old_interrupt.sa_handler != SIG_IGN) { /* as nohup and shells' background jobs want it */
        action.sa_handler = on_interrupt;
        sigaction(SIGINT, &action, NULL);
    }
}

void spi_signals_release(void) {
    sigaction(SIGINT, &old_interrupt, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    sigaction(SIGALRM, &old_alarm, NULL);
    atomic_store(&guest, NULL);
}

bool spi_signals_seen(void) {
    return atomic_load(&seen_count);
}
