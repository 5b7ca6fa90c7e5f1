/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <limits.h>
#include <pwd.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Kernels before 5.13 lack Landlock; C libraries lack wrappers for it. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif
#define LANDLOCK_VERSION_FLAG 1u

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define NOBODY_ID 65534u
#define MAX_OPEN_FILES 64
#define MAX_DATA (8ull << 30)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int close_between(unsigned first, unsigned last, struct nf_error *err)
{
    if (first > last)
        return 0;
    if (syscall(SYS_close_range, first, last, 0) < 0)
        return nf_fail(err, NF_EIO, "sandbox: close_range: %s", strerror(errno));
    return 0;
}

int sandbox_close_fds(const int *keep, int n, struct nf_error *err)
{
    unsigned next = 3;

    /* A handful of descriptors: the smallest not yet passed, again and again. */
    for (;;) {
        unsigned lowest = UINT_MAX;

        for (int i = 0; i < n; i++) {
            if (keep[i] >= 0 && (unsigned)keep[i] >= next && (unsigned)keep[i] < lowest)
                lowest = (unsigned)keep[i];
        }
        if (lowest == UINT_MAX)
            return close_between(next, UINT_MAX, err);
        if (lowest > next && close_between(next, lowest - 1, err) < 0)
            return NF_EIO;
        next = lowest + 1;
    }
}

static int drop_privileges(struct nf_error *err)
{
    struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return nf_fail(err, NF_EIO, "sandbox: no_new_privs: %s", strerror(errno));
    if (geteuid() == 0) {
        struct passwd *pw = getpwnam("nobody");
        uid_t uid = pw ? pw->pw_uid : NOBODY_ID;
        gid_t gid = pw ? pw->pw_gid : NOBODY_ID;

        /* Needs CAP_SETPCAP, so before the user goes. */
        for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
            setresuid(uid, uid, uid) < 0)
            return nf_fail(err, NF_EIO, "sandbox: become user nobody: %s", strerror(errno));
    }
    if (syscall(SYS_capset, &hdr, none) < 0)
        return nf_fail(err, NF_EIO, "sandbox: drop capabilities: %s", strerror(errno));
    if (geteuid() == 0 || getuid() == 0)
        return nf_fail(err, NF_EIO, "sandbox: still root");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return nf_fail(err, NF_EIO, "sandbox: dumpable: %s", strerror(errno));
    /* Not before: a change of user clears it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return nf_fail(err, NF_EIO, "sandbox: parent death signal: %s", strerror(errno));
    return 0;
}

static int limit(int resource, const char *name, rlim_t value, struct nf_error *err)
{
    struct rlimit rl;

    if (getrlimit(resource, &rl) < 0)
        return nf_fail(err, NF_EIO, "sandbox: getrlimit %s: %s", name, strerror(errno));
    if (rl.rlim_max == RLIM_INFINITY || rl.rlim_max > value)
        rl.rlim_max = value;
    rl.rlim_cur = rl.rlim_max;
    if (setrlimit(resource, &rl) < 0)
        return nf_fail(err, NF_EIO, "sandbox: setrlimit %s: %s", name, strerror(errno));
    return 0;
}

static int limit_resources(struct nf_error *err)
{
    int rc = limit(RLIMIT_CORE, "core", 0, err);

    if (rc == 0)
        rc = limit(RLIMIT_NPROC, "nproc", 0, err);
    if (rc == 0)
        rc = limit(RLIMIT_NOFILE, "nofile", MAX_OPEN_FILES, err);
    if (rc == 0 && !SANITIZED) /* Shadow memory would not fit. */
        rc = limit(RLIMIT_DATA, "data", MAX_DATA, err);
    return rc;
}

/* Handle every access right that the kernel knows, and allow none. */
static int deny_files(struct nf_error *err)
{
    /* Number of access rights by version of the interface. */
    static const unsigned rights[] = {0, 13, 14, 15, 15, 16};
    const long newest = (long)(sizeof(rights) / sizeof(rights[0])) - 1;
    uint64_t handled;
    long abi, fd;

    abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);
    if (abi < 1)
        return 0; /* Not in this kernel; seccomp refuses the same calls. */
    handled = (1ull << rights[abi < newest ? abi : newest]) - 1;
    /* The attribute's first field; all that version 1 had. */
    fd = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "sandbox: landlock: %s", strerror(errno));
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0) {
        close((int)fd);
        return nf_fail(err, NF_EIO, "sandbox: landlock: %s", strerror(errno));
    }
    close((int)fd);
    return 0;
}

static const int allowed[] = {
    /* descriptors that it has */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
    SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close),
    SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(fadvise64), SCMP_SYS(fstat),
    SCMP_SYS(fstat64), SCMP_SYS(_llseek), SCMP_SYS(fdatasync), SCMP_SYS(fsync),
    SCMP_SYS(recvmsg), SCMP_SYS(recvfrom), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
    SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(poll), SCMP_SYS(ppoll),
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(dup),
    /* memory */
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(mincore),
    /* time, signals, itself */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(futex), SCMP_SYS(sched_yield), SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall), SCMP_SYS(getpid), SCMP_SYS(gettid),
    SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
    SCMP_SYS(exit), SCMP_SYS(exit_group),
    /* anonymous memory for libblkid, which takes only files */
    SCMP_SYS(memfd_create),
};

/* Nothing in a healthy engine ends in these. */
static const int deadly[] = {
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev), SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind),
    SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(bpf), SCMP_SYS(setuid),
    SCMP_SYS(setresuid), SCMP_SYS(mount), SCMP_SYS(unshare), SCMP_SYS(setns),
    SCMP_SYS(io_uring_setup),
};

static int add_rules(scmp_filter_ctx ctx)
{
    static const int fcntls[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC,
                                 F_GET_SEALS};
    int rc = 0;

    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]) && rc == 0 && !SANITIZED; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
    for (size_t i = 0; i < sizeof(fcntls) / sizeof(fcntls[0]) && rc == 0; i++)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                              SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)fcntls[i], 0));
    /* Memory, but never code. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    /* What fstat(3) is on newer C libraries. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                              SCMP_A3_32(SCMP_CMP_EQ, AT_EMPTY_PATH, 0));
    /* abort(3), by which a failed assertion says where it was. */
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)getpid(), 0));
    return rc;
}

static int restrict_calls(struct nf_error *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc;

    if (!ctx)
        return nf_fail(err, NF_ENOMEM, "sandbox: seccomp: out of memory");
    rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* A binary tree: the hot calls must not pay for a list of sixty. */
    if (rc == 0)
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = add_rules(ctx);
    if (rc == 0)
        rc = seccomp_load(ctx);
    seccomp_release(ctx);
    if (rc < 0)
        return nf_fail(err, NF_EIO, "sandbox: seccomp: %s", strerror(-rc));
    return 0;
}

int sandbox_enter(struct nf_error *err)
{
    int rc = drop_privileges(err);

    if (rc == 0)
        rc = limit_resources(err);
    if (rc == 0)
        rc = deny_files(err);
    if (rc == 0)
        rc = restrict_calls(err);
    return rc;
}
