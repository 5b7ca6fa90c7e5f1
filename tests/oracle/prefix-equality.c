/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The oracle of prefix equality.  Feeds a trace to the engine record by
 * record, applies its events to a directory, and at journal commits compares
 * that directory with what the kernel would recover from the disk at that very
 * record: a copy of the image, its journal replayed by e2fsck, mounted
 * read-only.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/trace.h"
#include "tests/oracle/event_text.h"
#include "tests/oracle/replica.h"

struct options {
    struct replica_options replica;
    const char *trace, *minimise;
    uint64_t every, from, until, sample, seed;
    uint64_t attach_at; /* percent of the records that only the disk gets */
    int64_t fast_commits;    /* that there must be; or negative */
    bool self_test, keep, verbose;
};

/* Which commits to compare at; they are numbered from 1, 0 is the attach. */
struct plan {
    uint64_t from, until, every;
    const uint64_t *chosen; /* sorted; null: all of the above */
    size_t n;
};

/* The first difference. */
struct found {
    bool any, at_end, refused;
    uint64_t commit, ordinal; /* ordinal: how many records had been read */
    uint32_t txn;
    struct nf_record rec;     /* the last of them; its data is gone */
    bool good;                /* it was equal before: */
    uint64_t good_commit, good_ordinal;
    char *text, *events;
};

struct totals {
    uint64_t commits, compared, paths, bytes, kills, marks, waited;
    uint64_t fast[REPLICA_FATES], fast_all, damaged, acls, unsettled, unknown;
};

static int die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int die(const char *fmt, ...)
{
    va_list ap;

    fputs("prefix-equality: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return 1;
}

static void found_release(struct found *f)
{
    free(f->text);
    free(f->events);
    *f = (struct found){ 0 };
}

/* --- one pass over a trace ------------------------------------------------------ */

static bool wanted(const struct plan *p, uint64_t commit)
{
    size_t lo = 0, hi = p->n;

    if (commit < p->from || commit > p->until)
        return false;
    if (!p->chosen)
        return (commit - p->from) % p->every == 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (p->chosen[mid] < commit)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->n && p->chosen[lo] == commit;
}

/* Note that the present state is wrong, for the reasons in @text (taken over). */
static int note(struct found *f, struct replica *r, char *text)
{
    f->any = true;
    f->commit = r->commits;
    f->txn = r->txn;
    f->text = text;
    if (r->recent && r->recent_events > REPLICA_RECENT)
        fprintf(r->recent, "and %" PRIu64 " more\n", r->recent_events - REPLICA_RECENT);
    if (r->recent && fflush(r->recent) == 0)
        f->events = strndup(r->recent_text, r->recent_len);
    return 1;
}

/* 0 equal, 1 not (@f says what), or negative */
static int check(struct replica *r, struct found *f, bool verbose, struct nf_error *err)
{
    char *text = NULL;
    size_t len;
    FILE *report = open_memstream(&text, &len);
    int64_t n;

    if (!report)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    n = replica_check(r, report, err);
    if (n < 0)
        fprintf(report, "  %s\n", err->text);
    fclose(report);
    if (n < 0 && !r->committed && r->changed) {
        /* A tool is half way: the kernel does not know either. */
        free(text);
        return 0;
    }
    if (n != 0)
        return note(f, r, text);
    free(text);
    f->good = true;
    f->good_commit = r->commits;
    f->good_ordinal = f->ordinal;
    if (verbose)
        printf("commit %" PRIu64 " (transaction %u), record %" PRIu64 ": equal\n", r->commits,
               r->txn, f->rec.seq);
    replica_forget_events(r);
    return 0;
}

/* What the engine or the applier could not do is a difference, too. */
static int refused(struct found *f, struct replica *r, const struct nf_error *err)
{
    char *text = NULL;

    if (asprintf(&text, "  %s\n", err->text) < 0)
        text = NULL;
    f->refused = true;
    return note(f, r, text);
}

/* As many fast commits as there must be, and the kernel has a say in them: it refuses to
 * recover some, and damages a few things when it does. */
static int enough_fast_commits(const struct options *o, const struct plan *p,
                               struct replica *r, struct nf_error *err)
{
    const uint64_t all = replica_fast(r), compared = r->fast[REPLICA_COMPARED];

    if (all != (uint64_t)o->fast_commits)
        return nf_fail(err, NF_EINVAL, "%" PRIu64 " fast commits instead of %" PRId64, all,
                       o->fast_commits);
    if (p->chosen || p->every > 1 || p->from > 1 || p->until < r->commits)
        return 0;
    if (r->fast[REPLICA_PASSED])
        return nf_fail(err, NF_EINVAL, "%" PRIu64 " fast commits passed by", r->fast[REPLICA_PASSED]);
    if (compared * 3 < all)
        return nf_fail(err, NF_EINVAL, "only %" PRIu64 " of %" PRIu64 " fast commits could be "
                       "compared: the kernel refused to recover %" PRIu64, compared, all,
                       r->fast[REPLICA_REFUSED]);
    if ((r->damaged + r->acls) * 20 > r->paths)
        return nf_fail(err, NF_EINVAL, "the kernel's recovery damaged %" PRIu64 " directories and "
                       "%" PRIu64 " ACLs, of %" PRIu64 " paths", r->damaged, r->acls, r->paths);
    return 0;
}

/*
 * Read the trace, comparing as @p says.  0: equal wherever it was compared; 1:
 * @f says where it was not; negative: it could not be done.
 */
static int pass(const struct options *o, const struct plan *p, struct found *f, struct totals *t,
                struct nf_error *err)
{
    struct nf_trace_reader *reader = nf_trace_open(o->trace, err);
    struct replica_options ro = o->replica;
    struct replica r = { .dir = "" };
    uint64_t before;
    bool fresh = false; /* something since the last comparison */
    int rc;

    found_release(f);
    if (!reader)
        return NF_EIO;
    before = nf_trace_reader_info(reader)->records * o->attach_at / 100;
    ro.disk_size = nf_trace_reader_info(reader)->disk_size;
    ro.seed = o->seed;
    rc = replica_open(&r, &ro, err);
    while (rc == 0) {
        /* Before that, a disk in use, as one may be met: its journal is to be
         * replayed. */
        if (f->ordinal == before) {
            rc = replica_attach(&r, err);
            if (rc < 0)
                rc = refused(f, &r, err);
            else if (p->from == 0 && p->until > 0)
                rc = check(&r, f, o->verbose, err);
            if (rc != 0)
                break;
        }
        rc = replica_next(&r, reader, &f->rec, err);
        if (rc != 1)
            break;
        f->ordinal++;
        fresh = true;
        rc = replica_record(&r, &f->rec, err);
        if (rc < 0)
            rc = refused(f, &r, err);
        if (rc == 0 && ((r.committed && wanted(p, r.commits)) ||
                        (r.changed && r.commits >= p->from && !ro.count_only))) {
            rc = check(&r, f, o->verbose, err);
            fresh = false;
        }
        if (rc == 0 && r.committed && r.commits >= p->until)
            break;
    }
    if (rc == 0 && fresh && replica_end(&r, err) < 0)
        rc = refused(f, &r, err);
    if (rc == 0 && fresh && !ro.count_only && r.attached && r.commits < p->until) {
        f->at_end = true;
        rc = check(&r, f, o->verbose, err);
    }
    if (rc == 0 && !ro.count_only && replica_complete(&r, err) < 0)
        rc = refused(f, &r, err);
    if (rc == 0 && !ro.count_only && o->fast_commits >= 0)
        rc = enough_fast_commits(o, p, &r, err);
    if (rc == 0 && o->self_test && r.following && !ro.defer)
        rc = replica_self_test(&r, err);
    t->commits = r.commits;
    t->marks = r.marks;
    t->waited = r.waited;
    t->compared += r.compared;
    t->paths += r.paths;
    t->bytes += r.bytes;
    t->kills += r.killer.kills;
    t->fast_all = replica_fast(&r);
    memcpy(t->fast, r.fast, sizeof(t->fast));
    t->damaged += r.damaged;
    t->acls += r.acls;
    t->unsettled += r.unsettled;
    t->unknown += r.unknown;
    nf_trace_close(reader);
    replica_close(&r, o->keep && !ro.count_only);
    return rc;
}

/* --- which commits to sample -------------------------------------------------------- */

/* splitmix64 */
static uint64_t random64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* One commit out of each of @o->sample parts of the trace, and the last. */
static int choose(const struct options *o, struct plan *p, struct nf_error *err)
{
    const struct plan none = { .from = UINT64_MAX, .until = UINT64_MAX, .every = 1 };
    struct options count = *o;
    struct found f = { 0 };
    struct totals t = { 0 };
    uint64_t state = o->seed, *chosen, last = 0, room;
    int rc;

    count.replica.count_only = true;
    count.replica.events = NULL;
    count.self_test = false;
    rc = pass(&count, &none, &f, &t, err);
    found_release(&f);
    if (rc != 0 || t.commits <= o->sample) /* what the engine refuses, the real pass will say */
        return rc < 0 ? rc : 0;
    chosen = calloc(o->sample + 1, sizeof(*chosen));
    if (!chosen)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    for (uint64_t i = 0; i < o->sample; i++) {
        uint64_t end = t.commits * (i + 1) / o->sample;

        room = end - last;
        chosen[i] = last + 1 + random64(&state) % room;
        last = end;
    }
    p->n = o->sample;
    if (chosen[p->n - 1] != t.commits)
        chosen[p->n++] = t.commits;
    p->chosen = chosen;
    return 0;
}

/* --- the report ---------------------------------------------------------------------- */

static void print_command(const struct options *o, const char *base, const char *trace,
                          uint64_t attach_at, uint64_t commit)
{
    static const char *const discard[] = { "zero", "keep", "junk" };

    printf("to see it again:\n  prefix-equality --base %s --trace %s", base, trace);
    if (o->replica.any)
        printf(" --partition-offset any");
    else if (o->replica.offset)
        printf(" --partition-offset %" PRIu64, o->replica.offset);
    if (attach_at)
        printf(" --attach-at %" PRIu64, attach_at);
    if (o->replica.discard != REPLICA_DISCARD_ZERO)
        printf(" --discard %s", discard[o->replica.discard]);
    if (o->replica.kill_every)
        printf(" --kill-every %" PRIu64, o->replica.kill_every);
    if (o->replica.ahead)
        printf(" --ahead %" PRIu64, o->replica.ahead);
    if (o->replica.kill_every || o->replica.ahead)
        printf(" --seed %" PRIu64, o->seed);
    printf(" --from %" PRIu64 "\n", commit);
}

static void report(const struct options *o, const struct found *f)
{
    static const char *const types[] = { "nothing", "write", "zero", "discard", "flush", "resize",
                                         "gap", "open", "close", "readback" };
    unsigned type = f->rec.type;

    if (f->at_end)
        printf("DIFFERENT at the end, behind commit %" PRIu64, f->commit);
    else if (f->refused)
        printf("FAILED behind commit %" PRIu64, f->commit);
    else if (f->commit == 0)
        printf("DIFFERENT when the engine attached");
    else
        printf("DIFFERENT at commit %" PRIu64 " (transaction %u)", f->commit, f->txn);
    if (f->ordinal)
        printf(", record %" PRIu64 " (%s of %" PRIu64 " bytes at %" PRIu64 ")", f->rec.seq,
               type < sizeof(types) / sizeof(types[0]) ? types[type] : "?", f->rec.length,
               f->rec.offset);
    if (f->good)
        printf("; equal at commit %" PRIu64, f->good_commit);
    printf(":\n%s", f->text ? f->text : "");
    if (f->events && *f->events)
        printf("events since then:\n%s", f->events);
    print_command(o, o->replica.base, o->trace, o->attach_at, f->commit);
}

/* --- the smallest trace that shows it --------------------------------------------------- */

static int copy_disk(int from, const char *path, struct nf_error *err)
{
    static uint8_t buf[1 << 20];
    NF_AUTO_CLOSE int to = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    struct stat st;
    off_t pos = 0;

    if (to < 0 || fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    while (pos < st.st_size) {
        ssize_t n = pread(from, buf, sizeof(buf), pos);

        if (n <= 0 || (!nf_is_zero(buf, (size_t)n) && pwrite(to, buf, (size_t)n, pos) != n))
            return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
        pos += n;
    }
    return 0;
}

/* The disk after @first records to @base, the records from there up to @last to @trace. */
static int cut(const struct options *o, uint64_t first, uint64_t last, const char *base,
               const char *trace, struct nf_error *err)
{
    struct nf_trace_reader *reader = nf_trace_open(o->trace, err);
    struct replica_options ro = o->replica;
    struct replica r = { .dir = "" };
    struct nf_trace_writer *w = NULL;
    struct nf_trace_info info;
    struct nf_record rec;
    int rc;

    if (!reader)
        return NF_EIO;
    info = *nf_trace_reader_info(reader);
    ro.disk_size = info.disk_size;
    ro.count_only = true;
    rc = replica_open(&r, &ro, err);
    for (uint64_t i = 0; i <= last && rc == 0; i++) {
        if (i == first) {
            info.disk_size = r.image.size;
            info.origin = NF_TRACE_ORIGIN_DERIVED;
            rc = copy_disk(r.disk, base, err);
            w = rc == 0 ? nf_trace_create(trace, &info, err) : NULL;
            if (!w)
                rc = rc < 0 ? rc : NF_EIO;
        }
        if (rc < 0 || i == last)
            break;
        rc = nf_trace_next(reader, &rec, err);
        if (rc == 1)
            rc = w ? nf_trace_append(w, &rec, err) : replica_record(&r, &rec, err);
    }
    if (rc == 0)
        rc = nf_trace_finish(w, err);
    else
        nf_trace_discard(w);
    nf_trace_close(reader);
    replica_close(&r, false);
    return rc;
}

/* Only the step itself, from the disk as it was equal, if that shows it too; else from
 * where the engine attached. */
static int minimise(const struct options *o, const struct found *f, struct nf_error *err)
{
    const struct plan all = { .until = UINT64_MAX, .every = 1 };
    struct nf_trace_reader *reader = nf_trace_open(o->trace, err);
    struct options small = *o;
    struct found again = { 0 };
    struct totals t = { 0 };
    char base[300], trace[300];
    uint64_t first;
    int rc;

    if (!reader)
        return NF_EIO;
    first = nf_trace_reader_info(reader)->records * o->attach_at / 100;
    nf_trace_close(reader);
    if (mkdir(o->minimise, 0700) < 0 && errno != EEXIST)
        return nf_fail(err, NF_EIO, "%s: %s", o->minimise, strerror(errno));
    snprintf(base, sizeof(base), "%s/base.img", o->minimise);
    snprintf(trace, sizeof(trace), "%s/trace.nft", o->minimise);
    small.replica.base = base;
    small.replica.events = NULL;
    small.trace = trace;
    small.attach_at = 0;
    small.keep = small.self_test = false;
    for (uint64_t from = f->good ? f->good_ordinal : first;; from = first) {
        rc = cut(o, from, f->ordinal, base, trace, err);
        if (rc == 0)
            rc = pass(&small, &all, &again, &t, err);
        if (rc == 1)
            printf("cut to records %" PRIu64 " to %" PRIu64 ":\n", from + 1, f->ordinal);
        if (rc != 0 || from == first)
            break;
    }
    if (rc == 1)
        report(&small, &again);
    else if (rc == 0)
        printf("not cut: without what was compared or came later it does not show\n");
    found_release(&again);
    return rc < 0 ? rc : 0;
}

/* --- the program ----------------------------------------------------------------------- */

static int compare(const struct options *o, struct totals *t, struct nf_error *err)
{
    struct plan plan = { .from = o->from, .until = o->until, .every = o->every };
    struct found f = { 0 };
    int rc = o->sample ? choose(o, &plan, err) : 0;

    if (rc == 0)
        rc = pass(o, &plan, &f, t, err);
    if (rc == 1 && f.good && f.commit > f.good_commit + 1) {
        /* Between these two nobody looked. */
        const struct plan closely = { .from = f.good_commit, .until = f.commit, .every = 1 };
        struct found first = { 0 };
        struct options again = *o;

        again.self_test = false;
        rc = pass(&again, &closely, &first, t, err);
        if (rc == 1) {
            found_release(&f);
            f = first;
        } else if (rc == 0) {
            rc = 1; /* as it was found */
        }
    }
    if (rc == 1)
        report(o, &f);
    if (rc == 1 && o->minimise && minimise(o, &f, err) < 0)
        die("%s", err->text);
    found_release(&f);
    free((void *)plan.chosen);
    return rc;
}

static void usage(FILE *out)
{
    fputs(
        "prefix-equality - does our mirror follow a disk at each commit?\n\n"
        "Usage: prefix-equality --base IMAGE --trace FILE [OPTION]...\n\n"
        "Replays a trace of a disk's writes. The engine's events are applied to a\n"
        "directory; at each journal commit that directory is compared with what the\n"
        "kernel would recover from the disk at that record (a copy, its journal replayed\n"
        "by e2fsck, mounted read-only): names, types, modes, owners, sizes, link counts,\n"
        "modification times, extended attributes, link targets, contents. With fast\n"
        "commits the kernel itself replays; where it cannot, that is counted.\n\n"
        "What is replayed:\n"
        "  --base IMAGE           the disk when the trace began\n"
        "  --trace FILE           native trace\n"
        "  --partition-offset N   where the file system begins on the disk, bytes; any:\n"
        "                         each that is attached to when there is no other\n"
        "  --attach-at PERCENT    let the engine begin only after that part of the trace\n"
        "  --discard zero|keep|junk   what discarded ranges read as (zero)\n\n"
        "Where it is compared: at the attach, at all commits, and at the end; or\n"
        "  --every N              at each Nth commit, and at the end\n"
        "  --sample N             at N commits drawn evenly, the last, and at the end\n"
        "  --kill-every N         kill the engine after so many records and resume it, again and\n"
        "                         again\n"
        "  --ahead N              the image that the engine reads is ahead of the records that\n"
        "                         it got, by up to N of them; what it says to have read\n"
        "                         ahead is not compared before it has got those\n"
        "  --seed N               for the drawing, and how far each of those gets (1)\n"
        "  --from K, --until K    only at commits in that range, counted from 1\n\n"
        "If there is a difference, the first one is looked for between the last commit\n"
        "that was equal and this one, and reported: where, what, the events of that\n"
        "step, and a command that shows it again.\n"
        "  --minimise DIR         write the shortest trace that shows it, and its base\n"
        "  --events FILE          a line per event, of everything\n"
        "  --keep                 leave the scratch directory\n"
        "  --verbose              a line per comparison\n"
        "  --self-test            at the end, see that tampering is found\n"
        "  --defer PREFIX         compare nothing: PREFIX-N.img and PREFIX-N.mirror (see\n"
        "                         tests/oracle/read-guest) are what would have been; in\n"
        "                         a directory on the file system of the scratch files\n"
        "  --fast-commits N       see that there are so many, and at least a third was compared\n"
        "  --lose KIND            do not apply events of that kind, to see that it is found\n\n"
        "Scratch files go to $TMPDIR, else /dev/shm. Needs root and loop devices.\n"
        "Exit status: 0 equal; 1 different, or it could not be compared; 2 usage.\n\n"
        "Example: a capture that tests/oracle/run has kept\n"
        "  prefix-equality --base KEPT/out/base.img --trace KEPT/out/trace.nft \\\n"
        "      --sample 50 --minimise small\n",
        out);
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        { "base", required_argument, NULL, 'b' },
        { "trace", required_argument, NULL, 't' },
        { "partition-offset", required_argument, NULL, 'o' },
        { "attach-at", required_argument, NULL, 'a' },
        { "every", required_argument, NULL, 'n' },
        { "sample", required_argument, NULL, 'S' },
        { "kill-every", required_argument, NULL, 'K' },
        { "ahead", required_argument, NULL, 'A' },
        { "seed", required_argument, NULL, 'r' },
        { "from", required_argument, NULL, 'f' },
        { "until", required_argument, NULL, 'u' },
        { "minimise", required_argument, NULL, 'm' },
        { "discard", required_argument, NULL, 'd' },
        { "defer", required_argument, NULL, 'D' },
        { "lose", required_argument, NULL, 'l' },
        { "fast-commits", required_argument, NULL, 'F' },
        { "events", required_argument, NULL, 'e' },
        { "self-test", no_argument, NULL, 's' },
        { "keep", no_argument, NULL, 'k' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *events = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'b': o->replica.base = optarg; break;
        case 't': o->trace = optarg; break;
        case 'o':
            o->replica.any = strcmp(optarg, "any") == 0;
            o->replica.offset = strtoull(optarg, NULL, 0);
            break;
        case 'a': o->attach_at = strtoull(optarg, NULL, 0); break;
        case 'n': o->every = strtoull(optarg, NULL, 0); break;
        case 'S': o->sample = strtoull(optarg, NULL, 0); break;
        case 'K': o->replica.kill_every = strtoull(optarg, NULL, 0); break;
        case 'A': o->replica.ahead = strtoull(optarg, NULL, 0); break;
        case 'r': o->seed = strtoull(optarg, NULL, 0); break;
        case 'f': o->from = strtoull(optarg, NULL, 0); break;
        case 'u': o->until = strtoull(optarg, NULL, 0); break;
        case 'm': o->minimise = optarg; break;
        case 'd':
            if (strcmp(optarg, "zero") == 0)
                o->replica.discard = REPLICA_DISCARD_ZERO;
            else if (strcmp(optarg, "keep") == 0)
                o->replica.discard = REPLICA_DISCARD_KEEP;
            else if (strcmp(optarg, "junk") == 0)
                o->replica.discard = REPLICA_DISCARD_JUNK;
            else
                return -1;
            break;
        case 'D': o->replica.defer = optarg; break;
        case 'l':
            o->replica.lose = event_kind(optarg);
            if (o->replica.lose == NF_KIND_UNSPECIFIED)
                return -1;
            break;
        case 'F': o->fast_commits = (int64_t)strtoull(optarg, NULL, 0); break;
        case 'e': events = optarg; break;
        case 's': o->self_test = true; break;
        case 'k': o->keep = true; break;
        case 'v': o->verbose = true; break;
        case 'h': usage(stdout); exit(0);
        default: return -1;
        }
    }
    if (!o->replica.base || !o->trace || !o->every || o->attach_at > 100 || optind != argc)
        return -1;
    if (events && !(o->replica.events = fopen(events, "we"))) {
        die("%s: %s", events, strerror(errno));
        exit(1);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = { .every = 1, .until = UINT64_MAX, .seed = 1,
                         .fast_commits = -1 };
    struct totals t = { 0 };
    struct rlimit files;
    struct nf_error err = { 0 };
    int rc;

    if (parse(argc, argv, &o) < 0) {
        fputs("Usage: prefix-equality --base IMAGE --trace FILE [OPTION]... (see --help)\n",
              stderr);
        return 2;
    }
    if (geteuid() != 0)
        return die("needs root (mounts, owners, devices)");
    umask(0);
    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    rc = compare(&o, &t, &err);
    if (rc < 0)
        die("%s", err.text);
    if (rc == 0) {
        if (t.marks)
            printf("after %" PRIu64 " of %" PRIu64 " syncs something waited\n", t.waited, t.marks);
        printf("%s: %" PRIu64 " commits, %" PRIu64 " comparisons, %" PRIu64 " paths, %" PRIu64
               " bytes", o.replica.defer ? "deferred" : "equal", t.commits, t.compared, t.paths,
               t.bytes);
        if (t.kills)
            printf(", %" PRIu64 " kills", t.kills);
        if (t.unsettled)
            printf(", %" PRIu64 " without content, which was ahead", t.unsettled);
        if (t.unknown)
            printf("; %" PRIu64 " not made, since metadata was ahead", t.unknown);
        if (t.fast_all)
            printf("; %" PRIu64 " fast commits: %" PRIu64 " compared, %" PRIu64 " refused by the "
                   "kernel's recovery, %" PRIu64 " valid only with the next, when the log began; "
                   "it damaged %" PRIu64 " directories, %" PRIu64 " ACLs",
                   t.fast_all, t.fast[REPLICA_COMPARED], t.fast[REPLICA_REFUSED],
                   t.fast[REPLICA_TOGETHER], t.damaged, t.acls);
        puts("");
    }
    if (o.replica.events)
        fclose(o.replica.events);
    return rc == 0 ? 0 : 1;
}
