#include "sampler/probe_calls.h"

#include <errno.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "sampler/probe_frames.h"
#include "sampler/x86_insn.h"
#include "target/allocator_names.h"

/* The longest function of a known allocator has 10 KB (jemalloc's mallocx). */
#define MAX_CODE_BYTES 65536
#define MAX_SLOTS 4096
#define MAX_STUB_LOOKS 16384 /* targets of calls that are looked at: each costs a pread */
#define MAX_CALLS 4096
#define STUB_BYTES 16
#define MAX_INTERNAL_BYTES 4096 /* glibc's _mid_memalign has 700 */
#define MAX_INTERNAL_LOOKS 64   /* each may walk through the symbol table */

/* A place in the GOT that is filled with the address of an allocator's function. */
struct slot {
    uint64_t elf_addr;
    uint64_t function; /* elf_addr of the definition in this module; 0: it has none */
    enum allocator_role role;
};

struct scan {
    const struct module *module;
    const struct allocator_set *set;
    struct probe_calls *calls;
    struct slot *slots;
    size_t num_slots, slots_capacity;
    size_t num_stub_looks;
    size_t num_internal_looks;
    size_t from;
};

/* Reads as much as there is, up to `num_bytes`. num_done_ret: bytes read. Returns: false on errors.
 */
static bool read_at(int fd, uint64_t file_off, uint8_t *bytes, size_t num_bytes,
                    size_t *num_done_ret)
{
    size_t num_done = 0;

    while (num_done < num_bytes) {
        ssize_t num_read =
            pread(fd, bytes + num_done, num_bytes - num_done, (off_t)(file_off + num_done));

        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read < 0)
            return false;
        if (num_read == 0)
            break;
        num_done += (size_t)num_read;
    }
    *num_done_ret = num_done;
    return true;
}

struct error *probe_code_read(const struct module *module,
                              const struct allocator_function *function,
                              struct probe_code *code_ret)
{
    size_t num_bytes = function->num_bytes < MAX_CODE_BYTES ? function->num_bytes : MAX_CODE_BYTES;
    CLEANUP(free) uint8_t *bytes = malloc(num_bytes);
    size_t num_done;

    if (!bytes)
        return &error_no_memory;
    if (!read_at(module->fd, function->file_off, bytes, num_bytes, &num_done) || num_done == 0)
        return error_create(ERROR_FAILED, NULL, "cannot read the code of %s in %s", function->name,
                            module->path);
    code_ret->bytes = take_ptr(bytes);
    code_ret->num_bytes = num_done;
    return NULL;
}

/* Notes the slot of one relocation, when its symbol is an allocator's function. */
static struct error *slot_add(struct scan *scan, const GElf_Rela *relocation, Elf_Data *symbols,
                              const char *names, size_t num_name_bytes)
{
    uint32_t type = GELF_R_TYPE(relocation->r_info);
    uint64_t index = GELF_R_SYM(relocation->r_info);
    struct allocator_name name;
    GElf_Sym symbol;

    if ((type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) || index == 0 ||
        index > INT32_MAX || scan->num_slots >= MAX_SLOTS ||
        !gelf_getsym(symbols, (int)index, &symbol) || symbol.st_name >= num_name_bytes ||
        !allocator_name_find(names + symbol.st_name, &name))
        return NULL;
    RETURN_IF_ERROR(array_reserve(&scan->slots, &scan->slots_capacity, scan->num_slots + 1,
                                  sizeof(*scan->slots)));
    scan->slots[scan->num_slots++] = (struct slot){
        .elf_addr = relocation->r_offset,
        .function = symbol.st_shndx == SHN_UNDEF ? 0 : symbol.st_value,
        .role = name.role,
    };
    return NULL;
}

/* Reads the relocations of one section, whose symbols are those of .dynsym. */
static struct error *relocations_read(struct scan *scan, Elf_Scn *section, const GElf_Shdr *header)
{
    Elf *elf = scan->module->elf;
    Elf_Scn *symbols_section = elf_getscn(elf, header->sh_link);
    GElf_Shdr symbols_header;
    Elf_Data *data, *symbols, *names;
    const char *end;

    if (!symbols_section || !gelf_getshdr(symbols_section, &symbols_header) ||
        symbols_header.sh_type != SHT_DYNSYM)
        return NULL;
    data = elf_getdata(section, NULL);
    symbols = elf_getdata(symbols_section, NULL);
    names = elf_getdata(elf_getscn(elf, symbols_header.sh_link), NULL);
    if (!data || data->d_type != ELF_T_RELA || !symbols || symbols->d_type != ELF_T_SYM || !names ||
        !names->d_buf)
        return NULL;
    end = memrchr(names->d_buf, '\0', names->d_size);
    for (size_t i = 0; end && i < data->d_size / sizeof(Elf64_Rela) && i <= INT32_MAX; i++) {
        GElf_Rela relocation;

        if (gelf_getrela(data, (int)i, &relocation))
            RETURN_IF_ERROR(slot_add(scan, &relocation, symbols, names->d_buf,
                                     (size_t)(end - (const char *)names->d_buf)));
    }
    return NULL;
}

static int slot_compare(const void *left, const void *right)
{
    const struct slot *a = left;
    const struct slot *b = right;

    return a->elf_addr < b->elf_addr ? -1 : a->elf_addr > b->elf_addr;
}

static struct error *slots_read(struct scan *scan)
{
    Elf_Scn *section = NULL;

    while (scan->module->elf && (section = elf_nextscn(scan->module->elf, section))) {
        GElf_Shdr header;

        if (gelf_getshdr(section, &header) && header.sh_type == SHT_RELA)
            RETURN_IF_ERROR(relocations_read(scan, section, &header));
    }
    if (scan->num_slots > 0)
        qsort(scan->slots, scan->num_slots, sizeof(*scan->slots), slot_compare);
    return NULL;
}

static int function_compare(const void *key, const void *element)
{
    uint64_t elf_addr = *(const uint64_t *)key;
    const struct allocator_function *function = element;

    return elf_addr < function->elf_addr ? -1 : elf_addr > function->elf_addr;
}

/* Finds a function of the set by its entry; PROBE_CALLS_ELSEWHERE: none. */
static size_t function_at(const struct allocator_set *set, uint64_t elf_addr)
{
    const struct allocator_function *function =
        bsearch(&elf_addr, set->functions, set->num_functions, sizeof(*function), function_compare);

    return function ? (size_t)(function - set->functions) : PROBE_CALLS_ELSEWHERE;
}

static const struct slot *slot_at(const struct scan *scan, uint64_t elf_addr)
{
    struct slot key = {.elf_addr = elf_addr};

    if (scan->num_slots == 0)
        return NULL;
    return bsearch(&key, scan->slots, scan->num_slots, sizeof(key), slot_compare);
}

static struct error *call_add(struct scan *scan, const struct probe_call *added)
{
    struct probe_calls *calls = scan->calls;

    if ((added->to == added->from && added->is_jump) || calls->num_calls >= MAX_CALLS)
        return NULL;
    for (size_t i = 0; i < calls->num_calls; i++) {
        const struct probe_call *call = &calls->calls[i];

        if (call->from == added->from && call->to == added->to && call->role == added->role &&
            call->is_jump == added->is_jump && call->is_indirect == added->is_indirect)
            return NULL;
    }
    RETURN_IF_ERROR(array_reserve(&calls->calls, &calls->capacity, calls->num_calls + 1,
                                  sizeof(*calls->calls)));
    calls->calls[calls->num_calls++] = *added;
    return NULL;
}

/* A way through a slot: to a function of the set, or out of the module. */
static struct error *slot_follow(struct scan *scan, uint64_t slot_addr, bool is_jump)
{
    const struct slot *slot = slot_at(scan, slot_addr);
    size_t to;

    if (!slot)
        return NULL;
    to = slot->function != 0 ? function_at(scan->set, slot->function) : PROBE_CALLS_ELSEWHERE;
    return call_add(scan, &(struct probe_call){scan->from, to, slot->role, .is_jump = is_jump});
}

/* A stub of the PLT is one jump through a slot, perhaps behind endbr64. */
static struct error *stub_follow(struct scan *scan, uint64_t elf_addr, bool is_jump)
{
    uint8_t bytes[STUB_BYTES];
    size_t at = 0, num_bytes;
    uint64_t file_off, room;
    struct x86_insn insn;

    if (scan->num_slots == 0 || scan->num_stub_looks++ >= MAX_STUB_LOOKS ||
        !module_code_find(scan->module, elf_addr, &file_off, &room) ||
        !read_at(scan->module->fd, file_off, bytes, room < sizeof(bytes) ? room : sizeof(bytes),
                 &num_bytes))
        return NULL;
    if (num_bytes >= 4 && memcmp(bytes, "\xf3\x0f\x1e\xfa", 4) == 0)
        at = 4;
    if (!x86_insn_decode(bytes + at, num_bytes - at, &insn) || insn.kind != X86_JMP_SLOT)
        return NULL;
    return slot_follow(scan, elf_addr + at + (uint64_t)insn.target, is_jump);
}

/* Looks whether an internal function of memalign's jumps on to one of the set. */
static struct error *internal_follow(struct scan *scan, uint64_t elf_addr, bool is_jump)
{
    uint64_t num_bytes, file_off, room;
    uint8_t bytes[MAX_INTERNAL_BYTES];
    struct x86_insn insn;
    size_t num_done;

    if (scan->num_internal_looks++ >= MAX_INTERNAL_LOOKS)
        return NULL;
    num_bytes = probe_frames_extent(scan->module, elf_addr);
    if (num_bytes == 0 || num_bytes > sizeof(bytes) ||
        !module_code_find(scan->module, elf_addr, &file_off, &room) || room < num_bytes ||
        !read_at(scan->module->fd, file_off, bytes, num_bytes, &num_done))
        return NULL;
    for (size_t at = 0; at < num_done; at += insn.num_bytes) {
        size_t to;

        if (!x86_insn_decode(bytes + at, num_done - at, &insn))
            insn = (struct x86_insn){.num_bytes = 1};
        if (insn.kind != X86_JMP)
            continue;
        to = function_at(scan->set, elf_addr + at + (uint64_t)insn.target);
        if (to != PROBE_CALLS_ELSEWHERE)
            RETURN_IF_ERROR(
                call_add(scan, &(struct probe_call){scan->from, to, scan->set->functions[to].role,
                                                    .is_jump = is_jump, .is_indirect = true}));
    }
    return NULL;
}

/* Follows one instruction of the function that is scanned. */
static struct error *insn_follow(struct scan *scan, uint64_t elf_addr, const struct x86_insn *insn)
{
    const struct allocator_function *function = &scan->set->functions[scan->from];
    uint64_t target = elf_addr + (uint64_t)insn->target;
    bool is_jump = insn->kind != X86_CALL && insn->kind != X86_CALL_SLOT;
    size_t to;

    switch (insn->kind) {
    case X86_JMP_SLOT:
    case X86_CALL_SLOT:
        return slot_follow(scan, target, is_jump);
    case X86_CALL:
    case X86_JMP:
    case X86_JCC:
        to = function_at(scan->set, target);
        if (to != PROBE_CALLS_ELSEWHERE)
            return call_add(scan,
                            &(struct probe_call){scan->from, to, scan->set->functions[to].role,
                                                 .is_jump = is_jump});
        if (target >= function->elf_addr && target - function->elf_addr < function->num_bytes)
            return NULL;
        if (function->role == ALLOCATOR_MEMALIGN || function->role == ALLOCATOR_POSIX_MEMALIGN)
            RETURN_IF_ERROR(internal_follow(scan, target, is_jump));
        return stub_follow(scan, target, is_jump);
    default:
        return NULL;
    }
}

struct error *probe_calls_find(const struct module *module, const struct allocator_set *set,
                               const struct probe_code *codes, struct probe_calls *calls_ret)
{
    struct probe_calls calls = {0};
    struct scan scan = {.module = module, .set = set, .calls = &calls};
    struct error *err = slots_read(&scan);

    for (scan.from = 0; scan.from < set->num_functions && !err; scan.from++) {
        const struct probe_code *code = &codes[scan.from];
        struct x86_insn insn;

        for (size_t at = 0; at < code->num_bytes && !err; at += insn.num_bytes) {
            /* Bytes that are no instruction are data, or the end: go on as a disassembler does. */
            if (!x86_insn_decode(code->bytes + at, code->num_bytes - at, &insn))
                insn = (struct x86_insn){.num_bytes = 1};
            err = insn_follow(&scan, set->functions[scan.from].elf_addr + at, &insn);
        }
    }
    free(scan.slots);
    if (err) {
        free(calls.calls);
        return err;
    }
    *calls_ret = calls;
    return NULL;
}
