#include "unwind/cfi_rule.h"

#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2 /* gabi, after glibc 2.36's elf.h */
#endif

enum {
    MAX_SECTIONS = 65536,         /* of one file; more is no program */
    MAX_INFLATED_BYTES = 1 << 28, /* of .debug_frame; Go's largest are a few MB */
    ENTRY_BYTES = 128,            /* ld.so's _start and _dl_start_user: 90 bytes without CFI */
};

/* What hangs on module->unwind_data. */
struct module_cfi {
    struct cfi_section eh_frame;
    struct cfi_section debug_frame;
    void *inflated; /* owned bytes of a compressed .debug_frame */
    const uint8_t *file;
    size_t file_bytes;
    uint64_t entry; /* e_entry, if no CFI covers it; else 0 */
    bool is_go;
};

static void module_cfi_destroy(void *data)
{
    struct module_cfi *cfi = data;

    if (!cfi)
        return;
    cfi_section_deinit(&cfi->eh_frame);
    cfi_section_deinit(&cfi->debug_frame);
    free(cfi->inflated);
    free(cfi);
}

/* Finds a section by name. header_ret: its header. Returns: NULL when there is none. */
static Elf_Scn *find_section(Elf *elf, const char *name, GElf_Shdr *header_ret)
{
    Elf_Scn *section = NULL;
    size_t names;

    if (elf_getshdrstrndx(elf, &names) != 0)
        return NULL;
    for (int i = 0; i < MAX_SECTIONS; i++) {
        const char *found;

        section = elf_nextscn(elf, section);
        if (!section || !gelf_getshdr(section, header_ret))
            return NULL;
        found = elf_strptr(elf, names, header_ret->sh_name);
        if (found && strcmp(found, name) == 0)
            return header_ret->sh_type == SHT_NOBITS ? NULL : section;
    }
    return NULL;
}

/* Takes .eh_frame (of whatever section type: clang marks it SHT_X86_64_UNWIND) with its search
 * table. */
static bool open_eh_frame_section(Elf *elf, struct cfi_section *eh_frame)
{
    GElf_Shdr header;
    Elf_Scn *section = find_section(elf, ".eh_frame", &header);
    Elf_Data *data = section ? elf_rawdata(section, NULL) : NULL;

    if (!data || !data->d_buf || (header.sh_flags & SHF_COMPRESSED))
        return false;
    eh_frame->bytes = data->d_buf;
    eh_frame->num_bytes = data->d_size;
    eh_frame->elf_addr = header.sh_addr;
    eh_frame->is_eh = true;
    section = find_section(elf, ".eh_frame_hdr", &header);
    data = section ? elf_rawdata(section, NULL) : NULL;
    if (data && data->d_buf && !(header.sh_flags & SHF_COMPRESSED))
        cfi_section_use_header(eh_frame, data->d_buf, data->d_size, header.sh_addr);
    return true;
}

/* Gives the bytes of the file from a linked address to the end of its segment. */
static const uint8_t *bytes_at(const struct module *module, const struct module_cfi *cfi,
                               uint64_t elf_addr, size_t *num_bytes_ret)
{
    for (size_t i = 0; cfi->file && i < module->num_segments; i++) {
        const struct module_segment *segment = &module->segments[i];
        uint64_t offset = elf_addr - segment->elf_addr;

        if (offset >= segment->file_bytes || segment->file_off > cfi->file_bytes ||
            offset >= cfi->file_bytes - segment->file_off)
            continue;
        *num_bytes_ret = (size_t)(segment->file_bytes - offset);
        if (*num_bytes_ret > cfi->file_bytes - segment->file_off - offset)
            *num_bytes_ret = (size_t)(cfi->file_bytes - segment->file_off - offset);
        return cfi->file + segment->file_off + offset;
    }
    return NULL;
}

/* Takes .eh_frame by its program header, for files without section headers (sstrip, some vdsos). */
static void open_eh_frame_segment(const struct module *module, const struct module_cfi *cfi,
                                  struct cfi_section *eh_frame)
{
    GElf_Phdr header;
    size_t num_headers, num_bytes;
    const uint8_t *bytes;
    uint64_t elf_addr;

    if (elf_getphdrnum(module->elf, &num_headers) != 0)
        return;
    for (size_t i = 0; i < num_headers && i < MAX_SECTIONS; i++) {
        if (!gelf_getphdr(module->elf, (int)i, &header) || header.p_type != PT_GNU_EH_FRAME)
            continue;
        bytes = bytes_at(module, cfi, header.p_vaddr, &num_bytes);
        if (!bytes || !cfi_header_eh_frame(bytes, num_bytes, header.p_vaddr, &elf_addr))
            return;
        eh_frame->bytes = bytes_at(module, cfi, elf_addr, &eh_frame->num_bytes);
        eh_frame->elf_addr = elf_addr;
        eh_frame->is_eh = true;
        if (eh_frame->bytes)
            cfi_section_use_header(eh_frame, bytes, num_bytes, header.p_vaddr);
        return;
    }
}

static bool inflate_into(void *inflated, uint64_t inflated_bytes, const uint8_t *bytes,
                         size_t num_bytes, uint32_t type)
{
    uLongf length = inflated_bytes;

    if (type == ELFCOMPRESS_ZSTD)
        return ZSTD_decompress(inflated, inflated_bytes, bytes, num_bytes) == inflated_bytes;
    return type == ELFCOMPRESS_ZLIB && uncompress(inflated, &length, bytes, num_bytes) == Z_OK &&
           length == inflated_bytes;
}

/* Inflates bytes of known size. type: ELFCOMPRESS_*. Returns: heap memory, or NULL. */
static void *inflate_bytes(const uint8_t *bytes, size_t num_bytes, uint64_t inflated_bytes,
                           uint32_t type)
{
    void *inflated;

    /* zlib can't do better than 1032 to 1, nor does CFI by zstd: a larger claim is a lie that would
     * cost memory. */
    if (inflated_bytes == 0 || inflated_bytes > MAX_INFLATED_BYTES ||
        inflated_bytes / 1032 > num_bytes)
        return NULL;
    inflated = malloc(inflated_bytes);
    if (inflated && !inflate_into(inflated, inflated_bytes, bytes, num_bytes, type)) {
        free(inflated);
        inflated = NULL;
    }
    return inflated;
}

static uint64_t read_big_endian(const uint8_t *bytes)
{
    uint64_t value;

    memcpy(&value, bytes, sizeof(value));
    return __builtin_bswap64(value);
}

/* Takes .debug_frame, inflating it where needed: gabi's Elf64_Chdr, or the older .zdebug_frame
 * ("ZLIB", big-endian size) of Go. Own inflation, since the Elf is shared and must not change. */
static void open_debug_frame(Elf *elf, struct module_cfi *cfi)
{
    GElf_Shdr header;
    bool is_gnu_style = false;
    Elf_Scn *section = find_section(elf, ".debug_frame", &header);
    Elf_Data *data;
    const uint8_t *bytes;

    if (!section) {
        section = find_section(elf, ".zdebug_frame", &header);
        is_gnu_style = true;
    }
    data = section ? elf_rawdata(section, NULL) : NULL;
    if (!data || !data->d_buf)
        return;
    bytes = data->d_buf;
    cfi->debug_frame.bytes = bytes;
    cfi->debug_frame.num_bytes = data->d_size;
    if (is_gnu_style) {
        bool is_zlib = data->d_size > 12 && memcmp(bytes, "ZLIB", 4) == 0;

        cfi->debug_frame.num_bytes = is_zlib ? read_big_endian(bytes + 4) : 0;
        cfi->inflated = inflate_bytes(bytes + 12, is_zlib ? data->d_size - 12 : 0,
                                      cfi->debug_frame.num_bytes, ELFCOMPRESS_ZLIB);
        cfi->debug_frame.bytes = cfi->inflated;
    } else if (header.sh_flags & SHF_COMPRESSED) {
        Elf64_Chdr chdr = {0};

        if (data->d_size > sizeof(chdr))
            memcpy(&chdr, bytes, sizeof(chdr));
        cfi->debug_frame.num_bytes = chdr.ch_size;
        cfi->inflated = inflate_bytes(bytes + sizeof(chdr), data->d_size - sizeof(chdr),
                                      cfi->debug_frame.num_bytes, chdr.ch_type);
        cfi->debug_frame.bytes = cfi->inflated;
    }
}

static bool is_go_file(Elf *elf)
{
    GElf_Shdr header;

    return find_section(elf, ".gopclntab", &header) ||
           find_section(elf, ".data.rel.ro.gopclntab", &header);
}

/* Tells the module's CFI, opening it on first use; NULL when memory is short. */
static struct module_cfi *module_cfi_get(struct module *module)
{
    struct module_cfi *cfi = module->unwind_data;
    GElf_Ehdr header;
    struct cfi_fde fde;

    if (cfi)
        return cfi;
    cfi = calloc(1, sizeof(*cfi));
    if (!cfi)
        return NULL;
    module->unwind_data = cfi;
    module->unwind_data_destroy = module_cfi_destroy;
    if (!module->elf)
        return cfi;
    cfi->file = (const uint8_t *)elf_rawfile(module->elf, &cfi->file_bytes);
    if (!open_eh_frame_section(module->elf, &cfi->eh_frame))
        open_eh_frame_segment(module, cfi, &cfi->eh_frame);
    open_debug_frame(module->elf, cfi);
    if (gelf_getehdr(module->elf, &header) &&
        !cfi_section_find(&cfi->eh_frame, header.e_entry, &fde))
        cfi->entry = header.e_entry;
    cfi->is_go = is_go_file(module->elf);
    return cfi;
}

static bool fits_i32(int64_t value)
{
    return value >= INT32_MIN && value <= INT32_MAX;
}

/* Packs a row that needs no more than three registers. Returns: false when it takes the whole row.
 */
static bool pack_row(const struct cfi_row *row, struct unwind_rule *rule)
{
    const struct cfi_value *sp = &row->regs[ARCH_REG_SP];
    const struct cfi_value *bp = &row->regs[ARCH_REG_BP];
    const struct cfi_value *ip = &row->regs[ARCH_REG_IP];
    bool is_sp_cfa = sp->kind == CFI_UNSPECIFIED || (sp->kind == CFI_VAL_OFFSET && sp->offset == 0);

    if (row->is_signal_frame || row->cfa.kind != CFI_REGISTER || !fits_i32(row->cfa.offset) ||
        ip->kind != CFI_OFFSET || !fits_i32(ip->offset) || !is_sp_cfa)
        return false;
    if (bp->kind == CFI_UNSPECIFIED || bp->kind == CFI_SAME) {
        rule->bp = RULE_BP_SAME;
    } else if (bp->kind == CFI_OFFSET && fits_i32(bp->offset)) {
        rule->bp = RULE_BP_SAVED;
        rule->bp_offset = (int32_t)bp->offset;
    } else if (bp->kind == CFI_UNDEFINED) {
        rule->bp = RULE_BP_UNKNOWN;
    } else {
        return false;
    }
    rule->cfa_reg = row->cfa.reg;
    rule->cfa_offset = (int32_t)row->cfa.offset;
    rule->ra_offset = (int32_t)ip->offset;
    return true;
}

static struct unwind_rule rule_from_row(const struct cfi_row *row)
{
    struct unwind_rule rule = {.kind = RULE_ROW, .is_signal = row->is_signal_frame};

    if (row->regs[ARCH_REG_IP].kind == CFI_UNDEFINED)
        rule.kind = RULE_ROOT;
    else if (row->regs[ARCH_REG_IP].kind == CFI_UNSPECIFIED ||
             row->regs[ARCH_REG_IP].kind == CFI_SAME)
        rule.kind = RULE_BROKEN; /* a return address is always saved somewhere */
    else if (pack_row(row, &rule))
        rule.kind = RULE_SIMPLE;
    return rule;
}

/* Adds to a row of Go's what its .debug_frame leaves out: every frame that is not empty has the
 * caller's rbp just below the return address (cmd/internal/obj/x86, "frame pointer"). */
static struct unwind_rule rule_from_go_row(struct cfi_row *row)
{
    struct unwind_rule rule;

    if (row->cfa.kind == CFI_REGISTER && row->cfa.reg == ARCH_REG_SP && row->cfa.offset >= 16 &&
        row->regs[ARCH_REG_BP].kind == CFI_UNSPECIFIED)
        row->regs[ARCH_REG_BP] = (struct cfi_value){.kind = CFI_OFFSET, .offset = -16};
    rule = rule_from_row(row);
    if (rule.kind == RULE_SIMPLE)
        rule.kind = RULE_GO;
    return rule;
}

/* Tells whether execution at elf_addr (or, is_call: returning to the byte behind it) is in a signal
 * trampoline. Within one, the stack pointer does not move. */
static bool is_in_sigreturn(const struct module *module, const struct module_cfi *cfi,
                            uint64_t elf_addr, bool is_call)
{
    /* Begun, behind the mov (short, long form), behind the syscall (short, long). */
    static const uint8_t distances[] = {0, 5, 7, 9};

    for (size_t i = 0; i < (is_call ? 1 : sizeof(distances)); i++) {
        size_t num_bytes;
        const uint8_t *code = bytes_at(module, cfi, elf_addr + is_call - distances[i], &num_bytes);

        if (code && arch_is_sigreturn(code, num_bytes))
            return true;
    }
    return false;
}

/* Tells whether the call at elf_addr returns to where its thread ends. */
static bool is_thread_entry(const struct module *module, const struct module_cfi *cfi,
                            uint64_t elf_addr)
{
    size_t num_bytes;
    const uint8_t *code = bytes_at(module, cfi, elf_addr + 1, &num_bytes);

    return code && arch_is_thread_exit(code, num_bytes);
}

/* Tells whether code with CFI begins at elf_addr and no call lies before it: who returns there was
 * not called, its return address was written by hand (glibc's makecontext: __start_context). */
static bool is_returned_to_start(const struct module *module, struct module_cfi *cfi,
                                 uint64_t elf_addr)
{
    size_t num_bytes;
    const uint8_t *code = bytes_at(module, cfi, elf_addr - ARCH_CALL_BYTES, &num_bytes);
    struct cfi_fde fde;
    int32_t distance;

    return code && num_bytes >= ARCH_CALL_BYTES && !arch_is_behind_call(code, &distance) &&
           cfi_section_find(&cfi->eh_frame, elf_addr, &fde) && fde.start == elf_addr &&
           !fde.cie.is_signal_frame;
}

struct unwind_rule cfi_rule_find(struct module *module, uint64_t elf_addr, bool is_call,
                                 uint64_t *work, struct cfi_row *row_ret)
{
    struct unwind_rule rule = {.kind = RULE_EMPTY};
    struct module_cfi *cfi = module_cfi_get(module);
    struct cfi_fde fde;
    bool is_eh, is_found, is_made_by_hand;

    if (!cfi)
        return rule;
    is_made_by_hand = is_call && is_returned_to_start(module, cfi, elf_addr + 1);
    if (is_made_by_hand) {
        elf_addr++;
        is_call = false;
    }
    is_eh = cfi_section_find(&cfi->eh_frame, elf_addr, &fde);
    is_found = is_eh || cfi_section_find(&cfi->debug_frame, elf_addr, &fde);
    if (is_found && fde.cie.is_signal_frame)
        is_call = false; /* CFI that knows of signals is taken at its word */
    else if (is_call && is_in_sigreturn(module, cfi, elf_addr, true))
        return (struct unwind_rule){.kind = RULE_SIGRETURN, .is_signal = true};
    /* Go's .debug_frame and code without CFI don't mark the entry of a thread; .eh_frame does. */
    if (is_call && !is_eh && is_thread_entry(module, cfi, elf_addr))
        return (struct unwind_rule){.kind = RULE_ROOT};
    if (is_found) {
        if (cfi_row_compute(&fde, elf_addr, work, row_ret)) {
            rule = cfi->is_go && !is_eh ? rule_from_go_row(row_ret) : rule_from_row(row_ret);
            rule.is_signal |= is_made_by_hand;
            return rule;
        }
        rule.kind = *work == 0 ? RULE_EMPTY : RULE_BROKEN;
        return rule;
    }
    if (!is_call && is_in_sigreturn(module, cfi, elf_addr, false))
        return (struct unwind_rule){.kind = RULE_SIGRETURN, .is_signal = true};
    if (cfi->entry && elf_addr - cfi->entry < ENTRY_BYTES)
        rule.kind = RULE_ROOT;
    else
        rule.kind = cfi->is_go ? RULE_GO_NO_CFI : RULE_NO_CFI;
    return rule;
}

bool cfi_rule_is_behind_call(struct module *module, uint64_t elf_addr, int32_t *distance_ret)
{
    struct module_cfi *cfi = module_cfi_get(module);
    size_t num_bytes;
    const uint8_t *code =
        cfi ? bytes_at(module, cfi, elf_addr - ARCH_CALL_BYTES, &num_bytes) : NULL;

    return code && num_bytes >= ARCH_CALL_BYTES && arch_is_behind_call(code, distance_ret);
}

bool cfi_rule_is_start_code(struct module *module, uint64_t elf_addr)
{
    const struct module_cfi *cfi = module_cfi_get(module);

    return cfi && cfi->entry && elf_addr - cfi->entry < ENTRY_BYTES;
}
