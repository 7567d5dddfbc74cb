#include "symbolize/kernel_names.h"

#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"

/* BPF programs have no module: bpf_prog_<16 digits of hash>_name (kernel/bpf/core.c). */
static bool is_bpf_program(const char *name)
{
    return !strncmp(name, "bpf_prog_", 9) && strspn(name + 9, "0123456789abcdef") == 16;
}

const char *kernel_name_split(char *text)
{
    char *module = text + strcspn(text, " ");

    if (!*text || !strncmp(text, "0x", 2))
        return NULL;
    if (strncmp(module, " [", 2) != 0) {
        *module = '\0';
        return is_bpf_program(text) ? "bpf" : "vmlinux";
    }
    *module = '\0';
    module += 2;
    module[strcspn(module, " ]")] = '\0';
    return module;
}

#if HAVE_BPF

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bpf.h"

#define TEXT_BYTES 1024 /* room for KSYM_SYMBOL_LEN, about 600 */

/* What we and the program share: the argument of the format and what was printed. */
struct shared {
    uint64_t pc;
    char text[TEXT_BYTES];
};

struct kernel_names {
    volatile struct shared *shared; /* value of the map behind shared_fd */
    int shared_fd, format_fd, program_fd;
    struct arena arena;
};

DEFINE_CLEANUP(kernel_names_destroy, struct kernel_names *)

static struct error *refusal(int err)
{
    if (err == EPERM || err == EACCES)
        return error_from_errno(err, NULL, "can't ask the kernel for names by BPF");
    if (err == ENOMEM)
        return &error_no_memory;
    return error_create(ERROR_UNSUPPORTED, NULL, "can't ask the kernel for names by BPF: %s",
                        strerror(err));
}

/* An array of one value. */
static int create_map(uint32_t value_bytes, uint32_t flags)
{
    union bpf_attr attr = {
        .map_type = BPF_MAP_TYPE_ARRAY,
        .key_size = sizeof(uint32_t),
        .value_size = value_bytes,
        .max_entries = 1,
        .map_flags = flags,
    };

    return bpf_call(BPF_MAP_CREATE, &attr);
}

/* The helper wants its format from memory that nobody can change: a frozen map (bpf-helpers(7)). */
static int create_format(void)
{
    static const char format[8] = "%ps";
    static const uint32_t zero;
    CLEANUP(close) int fd = create_map(sizeof(format), BPF_F_RDONLY_PROG);
    union bpf_attr update = {.map_fd = (uint32_t)fd};
    union bpf_attr freeze = {.map_fd = (uint32_t)fd};
    int err;

    if (fd < 0)
        return fd;
    update.key = (uintptr_t)&zero;
    update.value = (uintptr_t)format;
    err = bpf_call(BPF_MAP_UPDATE_ELEM, &update);
    if (!err)
        err = bpf_call(BPF_MAP_FREEZE, &freeze);
    return err ? err : take_fd(&fd);
}

/* bpf_snprintf(shared->text, TEXT_BYTES, format, &shared->pc, 8). Arguments go into registers 1 to
 * 5 (kernel Documentation/bpf/standardization/instruction-set.rst). Of the program types that can
 * be run from here and print, the raw tracepoint is the oldest. */
static int load_program(int shared_fd, int format_fd)
{
    const struct bpf_insn program[] = {
        {.code = BPF_LD | BPF_DW | BPF_IMM,
         .dst_reg = BPF_REG_4,
         .src_reg = BPF_PSEUDO_MAP_VALUE,
         .imm = shared_fd},
        {0}, /* upper half of the address: offset into the value */
        {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_4},
        {.code = BPF_ALU64 | BPF_ADD | BPF_K,
         .dst_reg = BPF_REG_1,
         .imm = offsetof(struct shared, text)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = TEXT_BYTES},
        {.code = BPF_LD | BPF_DW | BPF_IMM,
         .dst_reg = BPF_REG_3,
         .src_reg = BPF_PSEUDO_MAP_VALUE,
         .imm = format_fd},
        {0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_5, .imm = sizeof(uint64_t)},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_snprintf},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
        .insns = (uintptr_t)program,
        .insn_cnt = ARRAY_LENGTH(program),
        .license = (uintptr_t) "GPL", /* bpf_snprintf asks for it */
        .prog_name = "cprofiler_names",
    };

    return bpf_call(BPF_PROG_LOAD, &attr);
}

static struct error *load(struct kernel_names *names)
{
    void *shared;

    names->format_fd = create_format();
    if (names->format_fd < 0)
        return refusal(-names->format_fd);
    names->shared_fd = create_map(sizeof(struct shared), BPF_F_MMAPABLE);
    if (names->shared_fd < 0)
        return refusal(-names->shared_fd);
    names->program_fd = load_program(names->shared_fd, names->format_fd);
    if (names->program_fd < 0)
        return refusal(-names->program_fd);
    shared =
        mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, names->shared_fd, 0);
    if (shared == MAP_FAILED)
        return refusal(errno);
    names->shared = shared;
    return NULL;
}

struct error *kernel_names_open(struct kernel_names **names_ret)
{
    CLEANUP(kernel_names_destroy) struct kernel_names *names = calloc(1, sizeof(*names));

    if (!names)
        return &error_no_memory;
    names->shared_fd = names->format_fd = names->program_fd = -1;
    arena_init(&names->arena);
    RETURN_IF_ERROR(load(names));
    *names_ret = take_ptr(names);
    return NULL;
}

void kernel_names_destroy(struct kernel_names *names)
{
    const int fds[] = {names ? names->shared_fd : -1, names ? names->format_fd : -1,
                       names ? names->program_fd : -1};

    if (!names)
        return;
    if (names->shared)
        munmap((void *)names->shared, sizeof(struct shared));
    for (size_t i = 0; i < ARRAY_LENGTH(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    arena_deinit(&names->arena);
    free(names);
}

/* Has one address printed. Returns: whether something was. */
static bool print_name(struct kernel_names *names, uint64_t pc, char text[TEXT_BYTES])
{
    union bpf_attr attr = {.test.prog_fd = (uint32_t)names->program_fd};

    names->shared->pc = pc;
    names->shared->text[0] = '\0';
    if (bpf_call(BPF_PROG_TEST_RUN, &attr))
        return false;
    memcpy(text, (const char *)names->shared->text, TEXT_BYTES);
    text[TEXT_BYTES - 1] = '\0';
    return text[0] != '\0';
}

const char *kernel_names_find(struct kernel_names *names, uint64_t pc, const char **module_ret)
{
    char text[TEXT_BYTES];
    const char *module;
    const char *name;

    if (!(pc >> 63) || !print_name(names, pc, text))
        return NULL;
    module = kernel_name_split(text);
    if (!module)
        return NULL;
    name = arena_copy(&names->arena, text, strlen(text));
    module = arena_copy(&names->arena, module, strlen(module));
    if (!name || !module)
        return NULL;
    if (module_ret)
        *module_ret = module;
    return name;
}

#else

struct error *kernel_names_open(struct kernel_names **names_ret)
{
    (void)names_ret;
    return error_create(ERROR_UNSUPPORTED, "build it with: make BPF=1",
                        "asking the kernel for names needs BPF, which this build leaves out");
}

void kernel_names_destroy(struct kernel_names *names)
{
    (void)names;
}

const char *kernel_names_find(struct kernel_names *names, uint64_t pc, const char **module_ret)
{
    (void)names;
    (void)pc;
    (void)module_ret;
    return NULL;
}

#endif
