#include "base/bpf.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int bpf_call(enum bpf_cmd command, union bpf_attr *attr)
{
    long result = syscall(SYS_bpf, command, attr, sizeof(*attr));

    return result < 0 ? -errno : (int)result;
}
