/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process in the engine's sandbox can and cannot do.  Each attempt is a
 * process of its own, forked before it enters the sandbox.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/daemon/handoff.h"
#include "bdi/daemon/sandbox.h"

enum outcome {
    DONE = 0,      /* the attempt succeeded */
    REFUSED = 1,   /* it failed with EPERM or EACCES */
    OTHER = 2,     /* it failed with something else */
    NO_SANDBOX = 3,
    KILLED = 100, /* by SIGSYS */
    DIED = 101,
};

/* 0 or -1 with errno. */
typedef int attempt(void);

static int helper_fd = -1; /* for attempts: a file that was open before */
static pid_t helper_pid;

/* Run @try in a sandbox. */
static enum outcome outcome_of(attempt *try)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct nf_error err;

        if (sandbox_enter(&err) < 0) {
            dprintf(2, "%s\n", err.text);
            _exit(NO_SANDBOX);
        }
        errno = 0;
        if (try() == 0)
            _exit(DONE);
        _exit(errno == EPERM || errno == EACCES ? REFUSED : OTHER);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        return (enum outcome)WEXITSTATUS(status);
    return WTERMSIG(status) == SIGSYS ? KILLED : DIED;
}

static void assert_refused(attempt *try)
{
    enum outcome o = outcome_of(try);

    if (o != REFUSED && o != KILLED)
        fail_msg("outcome %d", (int)o);
}

static int result(long rc)
{
    return rc < 0 ? -1 : 0;
}

static int try_open(void)
{
    return result(open("/etc/passwd", O_RDONLY));
}

static int try_create(void)
{
    return result(open("/tmp/nf-sandbox-must-not-exist", O_WRONLY | O_CREAT, 0600));
}

static int try_old_open(void)
{
#ifdef SYS_open
    return result(syscall(SYS_open, "/etc/passwd", O_RDONLY));
#else
    return result(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY));
#endif
}

static int try_unix_socket(void)
{
    return result(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_inet_socket(void)
{
    return result(socket(AF_INET, SOCK_STREAM, 0));
}

static int try_connect(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/run/x"};

    return result(connect(helper_fd, (struct sockaddr *)&sa, sizeof(sa)));
}

static int try_exec(void)
{
    char *argv[] = {(char[]){"true"}, NULL};

    return result(execv("/bin/true", argv));
}

static int try_fork(void)
{
    return result(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static int try_ptrace(void)
{
    return result(ptrace(PTRACE_ATTACH, helper_pid, NULL, NULL));
}

static int try_kill_parent(void)
{
    return result(kill(getppid(), 0));
}

static int try_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? -1 : 0;
}

static int try_make_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return 0; /* Not what is asked here: counts as a defect. */
    return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static int try_become_root(void)
{
    return result(syscall(SYS_setuid, 0));
}

static int try_unlink(void)
{
    return result(unlink("/tmp/nf-sandbox-must-not-exist"));
}

static int try_ioctl(void)
{
    return result(syscall(SYS_ioctl, helper_fd, 0x1269 /* BLKDISCARD-like */, 0));
}

static void refused(void **state)
{
    (void)state;
    assert_refused(try_open);
    assert_refused(try_create);
    assert_refused(try_old_open);
    assert_refused(try_unix_socket);
    assert_refused(try_inet_socket);
    assert_refused(try_connect);
    assert_refused(try_exec);
    assert_refused(try_fork);
    assert_refused(try_ptrace);
    assert_refused(try_kill_parent);
    assert_refused(try_code);
    assert_refused(try_make_code);
    assert_refused(try_become_root);
    assert_refused(try_unlink);
    assert_refused(try_ioctl);
    assert_int_equal(access("/tmp/nf-sandbox-must-not-exist", F_OK), -1);
}

/* That the attempts are refused by the sandbox, not by their own mistakes. */
static int no_sandbox_works(attempt *try)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(try() == 0 ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void possible_outside(void **state)
{
    (void)state;
    assert_true(no_sandbox_works(try_open));
    assert_true(no_sandbox_works(try_old_open));
    assert_true(no_sandbox_works(try_unix_socket));
    assert_true(no_sandbox_works(try_exec));
    assert_true(no_sandbox_works(try_kill_parent));
    assert_true(no_sandbox_works(try_code));
    assert_true(no_sandbox_works(try_make_code));
}

static int use_what_it_has(void)
{
    char buf[4] = {0};
    struct stat st;
    void *p;

    if (pwrite(helper_fd, "abcd", 4, 1 << 20) != 4 || pread(helper_fd, buf, 4, 1 << 20) != 4 ||
        memcmp(buf, "abcd", 4) != 0 || fstat(helper_fd, &st) < 0 ||
        ftruncate(helper_fd, 1 << 21) < 0 ||
        fallocate(helper_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0)
        return -1;
    p = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, helper_fd, 0);
    if (p == MAP_FAILED)
        return -1;
    free(malloc(64 << 20));
    return 0;
}

static void descriptors_and_memory_work(void **state)
{
    (void)state;
    assert_int_equal(outcome_of(use_what_it_has), DONE);
}

static int look_at_itself(void)
{
    /* Refused calls end in EPERM; these must hold without any call. */
    if (getuid() == 0 || geteuid() == 0 || getgid() == 0)
        return 0;
    errno = EPERM;
    return -1;
}

static void is_not_root(void **state)
{
    (void)state;
    assert_int_equal(outcome_of(look_at_itself), REFUSED);
}

/* The text of one line of /proc/PID/status. */
static void status_line(pid_t pid, const char *key, char *out, size_t room)
{
    char path[64], line[256];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    assert_non_null(f);
    out[0] = '\0';
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':')
            snprintf(out, room, "%s", line + strlen(key) + 1);
    }
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

static void seen_from_outside(void **state)
{
    char text[256];
    int ready[2];
    char byte;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct nf_error err;

        if (sandbox_enter(&err) == 0 && write(ready[1], "x", 1) == 1)
            for (;;)
                poll(NULL, 0, 1000);
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    status_line(pid, "Seccomp", text, sizeof(text));
    assert_int_equal(atoi(text), 2);
    status_line(pid, "NoNewPrivs", text, sizeof(text));
    assert_int_equal(atoi(text), 1);
    status_line(pid, "CapEff", text, sizeof(text));
    assert_int_equal(strtoull(text, NULL, 16), 0);
    status_line(pid, "CapPrm", text, sizeof(text));
    assert_int_equal(strtoull(text, NULL, 16), 0);
    if (geteuid() == 0) {
        status_line(pid, "CapBnd", text, sizeof(text));
        assert_int_equal(strtoull(text, NULL, 16), 0);
        status_line(pid, "Groups", text, sizeof(text));
        assert_int_equal(strspn(text, " \t"), strlen(text));
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void closes_what_is_not_kept(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int a = dup2(helper_fd, 20), b = dup2(helper_fd, 31), c = dup2(helper_fd, 40);
        const int keep[] = {31, -1, 20, 31};
        struct nf_error err;

        if (a != 20 || b != 31 || c != 40 || sandbox_close_fds(keep, 4, &err) < 0)
            _exit(1);
        for (int fd = 3; fd < 200; fd++) {
            if ((fcntl(fd, F_GETFD) >= 0) != (fd == 20 || fd == 31))
                _exit(2);
        }
        _exit(fcntl(0, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0 ? 3 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Descriptors come in even there: that is how the engine lives on. */
static void receives_descriptors(void **state)
{
    struct handoff_msg msg = {.kind = HANDOFF_IMAGE, .epoch = 7, .next_seq = 9};
    struct nf_error err;
    int pair[2], status, fds[3];
    pid_t pid;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct handoff_msg got;
        int in[HANDOFF_FDS_MAX], n;

        close(pair[0]);
        if (sandbox_enter(&err) < 0 || handoff_recv(pair[1], &got, in, &n, &err) < 0 || n != 2 ||
            got.kind != HANDOFF_IMAGE || got.epoch != 7 || got.next_seq != 9 ||
            write(in[1], "z", 1) != 1)
            _exit(1);
        /* Then the other side goes away. */
        _exit(handoff_recv(pair[1], &got, in, &n, &err) == NF_ECLOSED ? 0 : 2);
    }
    close(pair[1]);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(handoff_send(pair[0], &msg, fds, 2, &err), 0);
    assert_int_equal(handoff_send(pair[0], &msg, fds, 4, &err), NF_EINVAL);
    close(fds[1]);
    {
        char byte = 0;

        assert_int_equal(read(fds[0], &byte, 1), 1);
        assert_int_equal(byte, 'z');
    }
    close(fds[0]);
    close(pair[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void handoff_refuses_short_messages(void **state)
{
    struct handoff_msg msg;
    struct nf_error err;
    int pair[2], fds[HANDOFF_FDS_MAX], n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(send(pair[0], "short", 5, 0), 5);
    assert_int_equal(handoff_recv(pair[1], &msg, fds, &n, &err), NF_EFORMAT);
    assert_int_equal(n, 0);
    close(pair[0]);
    close(pair[1]);
}

static int setup(void **state)
{
    (void)state;
    helper_fd = memfd_create("helper", 0);
    helper_pid = getpid();
    return helper_fd >= 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(possible_outside),
        cmocka_unit_test(refused),
        cmocka_unit_test(descriptors_and_memory_work),
        cmocka_unit_test(is_not_root),
        cmocka_unit_test(seen_from_outside),
        cmocka_unit_test(closes_what_is_not_kept),
        cmocka_unit_test(receives_descriptors),
        cmocka_unit_test(handoff_refuses_short_messages),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
