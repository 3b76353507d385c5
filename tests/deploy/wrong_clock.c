/*
 * For /etc/ld.so.preload of a test's machine: a clock that is wrong, and that no time server keeps.
 *
 * A container has its host's clock. So every program of the machine, systemd too, gets the wall
 * clock shifted by what stands in SHIFT (nanoseconds, a machine word), when it reads the time as
 * well as in the kernel's stamps on packets. Setting the clock changes SHIFT, and the kernel calls
 * the clock unsynchronised. What the kernel itself dates (files) keeps the host's time; uptime and
 * the monotonic clock are right, as they are on a real device.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define SHIFT "/usr/lib/wrong-clock.shift"
#define SECOND 1000000000LL
#define STAMP_US 29 /* SO_TIMESTAMP */
#define STAMP_NS 35 /* SO_TIMESTAMPNS */
#define STAMP_NS_NEW 64

static volatile long long *shift;

static long long shift_ns(void)
{
    if (!shift) {
        int file = syscall(SYS_openat, AT_FDCWD, SHIFT, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            return 0;
        void *seen = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
        syscall(SYS_close, file);
        if (seen == MAP_FAILED)
            return 0;
        shift = seen;
    }
    return *shift;
}

static long long real_ns(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static long long shown_ns(void) { return real_ns() + shift_ns(); }

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return syscall(SYS_clock_gettime, clock, now);
    long long ns = shown_ns();
    now->tv_sec = ns / SECOND;
    now->tv_nsec = ns % SECOND;
    return 0;
}

time_t time(time_t *seconds)
{
    time_t now = shown_ns() / SECOND;
    if (seconds)
        *seconds = now;
    return now;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    long long ns = shown_ns();
    (void)zone;
    now->tv_sec = ns / SECOND;
    now->tv_usec = ns % SECOND / 1000;
    return 0;
}

int clock_settime(clockid_t clock, const struct timespec *to)
{
    if (clock != CLOCK_REALTIME)
        return syscall(SYS_clock_settime, clock, to);
    long long wanted = to->tv_sec * SECOND + to->tv_nsec - real_ns();
    int file = syscall(SYS_openat, AT_FDCWD, SHIFT, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    long written = pwrite(file, &wanted, sizeof wanted, 0);
    syscall(SYS_close, file);
    return written == sizeof wanted ? 0 : -1;
}

int settimeofday(const struct timeval *to, const struct timezone *zone)
{
    (void)zone;
    struct timespec wanted = {to->tv_sec, to->tv_usec * 1000};
    return clock_settime(CLOCK_REALTIME, &wanted);
}

ssize_t recvmsg(int from, struct msghdr *message, int flags)
{
    ssize_t got = syscall(SYS_recvmsg, from, message, flags);
    if (got < 0)
        return got;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one)) {
        int kind = one->cmsg_type;
        if (one->cmsg_level != SOL_SOCKET)
            continue;
        if (kind != STAMP_US && kind != STAMP_NS && kind != STAMP_NS_NEW)
            continue;
        /* Seconds, and microseconds or nanoseconds: two machine words. */
        struct timespec *stamp = (struct timespec *)CMSG_DATA(one);
        long long unit = kind == STAMP_US ? 1000 : 1;
        long long ns = stamp->tv_sec * SECOND + stamp->tv_nsec * unit + shift_ns();
        stamp->tv_sec = ns / SECOND;
        stamp->tv_nsec = ns % SECOND / unit;
    }
    return got;
}

int adjtimex(struct timex *asked)
{
    (void)asked;
    return TIME_ERROR;
}
