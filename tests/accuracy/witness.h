/* Other unwinders as witnesses: libunwind and libdw walk the very sample that ours walked, over the
 * same registers, stack bytes and mappings.
 *
 * Header-only; for compare_unwind.c. Ownership: a witness borrows sample, process and modules.
 * Source: libunwind(3) (remote accessors), libunwind-dynamic(3), elfutils/libdwfl.h.
 */
#ifndef TESTS_WITNESS_H
#define TESTS_WITNESS_H

#include <elfutils/libdwfl.h>
#include <gelf.h>
#include <libunwind.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "profile/callchain.h"
#include "profile/sample.h"
#include "target/target.h"

/* libunwind exports it for remote unwinders, but declares it in no header. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t space, unw_word_t ip,
                                              unw_dyn_info_t *table, unw_proc_info_t *info,
                                              int need_unwind_info, void *argument);

struct witness_chain {
    size_t num_frames;
    uint64_t pcs[CALLCHAIN_MAX_USER_FRAMES]; /* callers: return address - 1 */
};

struct witness {
    const struct sample *sample;
    struct process *process;
    struct witness_chain *chain;
    bool has_missed_below; /* it wanted bytes below the stack pointer, which no copy has */

    unw_addr_space_t space;  /* libunwind */
    const struct vma *table; /* whose CFI libunwind reads now; valid during one walk */

    uint32_t space_generation;

    Dwfl *dwfl; /* libdw: of one process and generation */
    uint32_t dwfl_pid;
    uint32_t dwfl_generation;
};

/* ---- bytes ---- */

/* Reads a word of the copied stack. Returns: false when it is not there. */
static bool witness_read_stack(struct witness *witness, uint64_t addr, uint64_t *value_ret)
{
    const struct sample *sample = witness->sample;
    uint64_t offset = addr - sample->regs[SAMPLE_REG_SP];

    witness->has_missed_below |= 0 - offset <= 4096;
    if (offset >= sample->stack_bytes || sample->stack_bytes - offset < 8)
        return false;
    memcpy(value_ret, sample->stack + offset, 8);
    return true;
}

/* Gives the bytes of a module from a linked address on. Returns: NULL when the file has none. */
static const uint8_t *witness_module_bytes(const struct module *module, uint64_t elf_addr,
                                           size_t *num_bytes_ret)
{
    size_t file_bytes = 0;
    const uint8_t *file =
        module->elf ? (const uint8_t *)elf_rawfile(module->elf, &file_bytes) : NULL;

    for (size_t i = 0; file && i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];
        uint64_t offset = elf_addr - segment->elf_addr;

        if (offset >= segment->file_bytes || segment->file_off + offset >= file_bytes)
            continue;
        *num_bytes_ret = segment->file_bytes - offset;
        return file + segment->file_off + offset;
    }
    return NULL;
}

/* Reads a word of a mapped file; bytes behind its end are zeros. */
static bool witness_read_module(const struct vma *vma, uint64_t addr, uint64_t *value_ret)
{
    size_t num_bytes;
    const uint8_t *bytes =
        vma && vma->module && vma->has_bias
            ? witness_module_bytes(vma->module, vma_elf_addr(vma, addr), &num_bytes)
            : NULL;

    if (!bytes)
        return false;
    *value_ret = 0;
    memcpy(value_ret, bytes, num_bytes < 8 ? num_bytes : 8);
    return true;
}

static bool witness_push(struct witness_chain *chain, uint64_t pc)
{
    if (chain->num_frames == CALLCHAIN_MAX_USER_FRAMES)
        return false;
    chain->pcs[chain->num_frames++] = pc;
    return true;
}

/* ---- libunwind ---- */

static int lu_access_mem(unw_addr_space_t space, unw_word_t addr, unw_word_t *value, int is_write,
                         void *argument)
{
    struct witness *witness = (struct witness *)argument;

    (void)space;
    if (is_write || !witness->process->maps)
        return -UNW_EINVAL;
    if (witness_read_stack(witness, addr, value) ||
        witness_read_module(maps_find(witness->process->maps, addr), addr, value) ||
        witness_read_module(witness->table, addr, value))
        return 0;
    return -UNW_EINVAL;
}

static int lu_access_reg(unw_addr_space_t space, unw_regnum_t reg, unw_word_t *value, int is_write,
                         void *argument)
{
    const struct witness *witness = (const struct witness *)argument;

    (void)space;
    if (is_write || reg < 0 || reg >= SAMPLE_NUM_REGS)
        return -UNW_EBADREG;
    *value = witness->sample->regs[reg]; /* libunwind numbers registers as DWARF does */
    return 0;
}

static int lu_access_fpreg(unw_addr_space_t space, unw_regnum_t reg, unw_fpreg_t *value,
                           int is_write, void *argument)
{
    (void)space;
    (void)reg;
    (void)value;
    (void)is_write;
    (void)argument;
    return -UNW_EBADREG;
}

/* Finds the address, as linked, of .eh_frame_hdr. Returns: false when there is none. */
static bool lu_find_header(const struct module *module, uint64_t *elf_addr_ret)
{
    GElf_Phdr header;
    size_t num_headers = 0;

    if (!module->elf || elf_getphdrnum(module->elf, &num_headers) != 0)
        return false;
    for (size_t i = 0; i < num_headers; i++) {
        if (gelf_getphdr(module->elf, (int)i, &header) && header.p_type == PT_GNU_EH_FRAME) {
            *elf_addr_ret = header.p_vaddr;
            return true;
        }
    }
    return false;
}

static int lu_find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *info,
                             int need_unwind_info, void *argument)
{
    struct witness *witness = (struct witness *)argument;
    const struct vma *vma = witness->process->maps ? maps_find(witness->process->maps, ip) : NULL;
    unw_dyn_info_t table = {.format = UNW_INFO_FORMAT_REMOTE_TABLE};
    uint64_t header_elf_addr;
    const uint8_t *header;
    uint32_t num_rows;
    size_t num_bytes;

    if (!vma || !vma->module || !vma->has_bias || !lu_find_header(vma->module, &header_elf_addr))
        return -UNW_ENOINFO;
    header = witness_module_bytes(vma->module, header_elf_addr, &num_bytes);
    /* The form that every linker writes: pc-relative, 4-byte count, sorted pairs. */
    if (!header || num_bytes < 12 || memcmp(header, "\1\x1b\3\x3b", 4) != 0)
        return -UNW_ENOINFO;
    memcpy(&num_rows, header + 8, sizeof(num_rows));
    witness->table = vma;
    table.start_ip = vma->start;
    table.end_ip = vma->limit;
    table.u.rti.segbase = header_elf_addr + vma->bias;
    table.u.rti.table_data = table.u.rti.segbase + 12;
    table.u.rti.table_len = num_rows; /* in words, as a row has eight bytes */
    return UNW_OBJ(dwarf_search_unwind_table)(space, ip, &table, info, need_unwind_info, argument);
}

static void lu_put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *argument)
{
    (void)space;
    (void)info;
    (void)argument;
}

static int lu_no_dynamic_info(unw_addr_space_t space, unw_word_t *addr, void *argument)
{
    (void)space;
    (void)addr;
    (void)argument;
    return -UNW_ENOINFO;
}

static unw_addr_space_t lu_open(void)
{
    static unw_accessors_t accessors = {.find_proc_info = lu_find_proc_info,
                                        .put_unwind_info = lu_put_unwind_info,
                                        .get_dyn_info_list_addr = lu_no_dynamic_info,
                                        .access_mem = lu_access_mem,
                                        .access_reg = lu_access_reg,
                                        .access_fpreg = lu_access_fpreg};
    unw_addr_space_t space = unw_create_addr_space(&accessors, 0);

    unw_set_caching_policy(space, UNW_CACHE_GLOBAL);
    return space;
}

static void witness_libunwind(struct witness *witness)
{
    bool was_interrupted = true; /* the leaf did not call, nor did what a signal interrupted */
    unw_cursor_t cursor;

    if (!witness->space)
        witness->space = lu_open();
    if (witness->space_generation != witness->process->maps->generation)
        unw_flush_cache(witness->space, 0, 0);
    witness->space_generation = witness->process->maps->generation;
    if (unw_init_remote(&cursor, witness->space, witness) != 0)
        return;
    do {
        unw_word_t ip = 0;
        bool is_signal = unw_is_signal_frame(&cursor) > 0;

        unw_get_reg(&cursor, UNW_REG_IP, &ip);
        if (ip == 0 || !witness_push(witness->chain, was_interrupted || is_signal ? ip : ip - 1))
            return;
        was_interrupted = is_signal;
    } while (unw_step(&cursor) > 0);
}

/* Tells whether the file at `pc` has an .eh_frame that covers it; true where it has none at all
 * (.debug_frame may). */
static bool witness_has_cfi(struct witness *witness, uint64_t pc)
{
    const struct vma *vma = maps_find(witness->process->maps, pc);
    unw_proc_info_t info;
    uint64_t elf_addr;

    return !vma || !vma->module || !lu_find_header(vma->module, &elf_addr) ||
           lu_find_proc_info(witness->space, pc, &info, 0, witness) == 0;
}

/* ---- libdw ---- */

static pid_t dw_next_thread(Dwfl *dwfl, void *argument, void **thread_argument)
{
    (void)dwfl;
    if (*thread_argument)
        return 0;
    *thread_argument = argument;
    return (pid_t)((struct witness *)argument)->dwfl_pid;
}

static bool dw_get_thread(Dwfl *dwfl, pid_t tid, void *argument, void **thread_argument)
{
    (void)dwfl;
    (void)tid;
    *thread_argument = argument;
    return true;
}

static bool dw_memory_read(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *value, void *argument)
{
    struct witness *witness = (struct witness *)argument;

    (void)dwfl;
    return witness_read_stack(witness, addr, value) ||
           witness_read_module(maps_find(witness->process->maps, addr), addr, value);
}

static bool dw_set_registers(Dwfl_Thread *thread, void *argument)
{
    const struct witness *witness = (const struct witness *)argument;

    return dwfl_thread_state_registers(thread, 0, SAMPLE_NUM_REGS, witness->sample->regs);
}

static int dw_visit_frame(Dwfl_Frame *frame, void *argument)
{
    struct witness_chain *chain = (struct witness_chain *)argument;
    bool is_activation = true;
    Dwarf_Addr pc = 0;

    if (!dwfl_frame_pc(frame, &pc, &is_activation) || pc == 0)
        return DWARF_CB_ABORT;
    return witness_push(chain, is_activation ? pc : pc - 1) ? DWARF_CB_OK : DWARF_CB_ABORT;
}

static int dw_find_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                       char **file_name, Elf **elf)
{
    (void)module;
    (void)data;
    (void)name;
    (void)base;
    (void)file_name;
    (void)elf;
    return -1;
}

static int dw_find_debuginfo(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                             const char *file_name, const char *link, GElf_Word crc,
                             char **debug_file_name)
{
    (void)module;
    (void)data;
    (void)name;
    (void)base;
    (void)file_name;
    (void)link;
    (void)crc;
    (void)debug_file_name;
    return -1;
}

/* Opens a module's file; the vdso has none, so it gets one. Returns: a descriptor, or -1. */
static int dw_open_file(const struct module *module)
{
    int fd = -1;

    if (module->fd >= 0)
        return dup(module->fd);
    if (module->image) {
        fd = memfd_create("vdso", MFD_CLOEXEC);
        if (write(fd, module->image, module->image_bytes) != (ssize_t)module->image_bytes)
            return -1;
    }
    return fd;
}

static void dw_open(struct witness *witness)
{
    static const Dwfl_Callbacks callbacks = {.find_elf = dw_find_elf,
                                             .find_debuginfo = dw_find_debuginfo};
    static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = dw_next_thread,
                                                           .get_thread = dw_get_thread,
                                                           .memory_read = dw_memory_read,
                                                           .set_initial_registers =
                                                               dw_set_registers};
    const struct maps *maps = witness->process->maps;
    const struct module *before = NULL;
    Dwfl *dwfl = dwfl_begin(&callbacks);
    Elf *main_elf = NULL;

    for (size_t i = 0; i < maps->num_vmas; i++) {
        const struct vma *vma = &maps->vmas[i];

        if (!vma->module || !vma->has_bias || vma->module == before)
            continue;
        before = vma->module;
        dwfl_report_elf(dwfl, vma->module->path, vma->module->path, dw_open_file(vma->module),
                        vma->bias, false);
        main_elf = main_elf ? main_elf : vma->module->elf;
    }
    dwfl_report_end(dwfl, NULL, NULL);
    dwfl_end(witness->dwfl);
    witness->dwfl = dwfl;
    dwfl_attach_state(dwfl, main_elf, (pid_t)witness->dwfl_pid, &thread_callbacks, witness);
}

static void witness_libdw(struct witness *witness)
{
    if (!witness->dwfl || witness->dwfl_pid != witness->process->pid ||
        witness->dwfl_generation != witness->process->maps->generation) {
        witness->dwfl_pid = witness->process->pid;
        witness->dwfl_generation = witness->process->maps->generation;
        dw_open(witness);
    }
    dwfl_getthread_frames(witness->dwfl, (pid_t)witness->dwfl_pid, dw_visit_frame, witness->chain);
}

/* ---- both ---- */

/* Walks `sample` of `process` (which has maps) by libunwind or libdw into `chain`. */
static void witness_unwind(struct witness *witness, bool is_libdw, struct process *process,
                           const struct sample *sample, struct witness_chain *chain)
{
    witness->sample = sample;
    witness->process = process;
    witness->chain = chain;
    witness->has_missed_below = false;
    chain->num_frames = 0;
    if (is_libdw)
        witness_libdw(witness);
    else
        witness_libunwind(witness);
}

#endif
