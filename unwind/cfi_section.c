#include "unwind/cfi_section.h"

#include <stdlib.h>

#include "base/array.h"
#include "base/dwarf_bytes.h"
#include "unwind/arch_x86_64.h"

/* LSB 5, DWARF Extensions, "DWARF Exception Header Encoding". */
enum {
    PE_ABSPTR = 0x00,
    PE_ULEB128 = 0x01,
    PE_UDATA2 = 0x02,
    PE_UDATA4 = 0x03,
    PE_UDATA8 = 0x04,
    PE_SLEB128 = 0x09,
    PE_SDATA2 = 0x0a,
    PE_SDATA4 = 0x0b,
    PE_SDATA8 = 0x0c,
    PE_FORMAT_MASK = 0x0f,
    PE_PCREL = 0x10,
    PE_DATAREL = 0x30,
    PE_BASE_MASK = 0x70,
    PE_INDIRECT = 0x80,
    PE_OMIT = 0xff,
};

enum {
    MAX_INDEX_ROWS = 1 << 22, /* four times what the largest compiler binaries have; 64 MB */
    MAX_OVERLAPS = 8,         /* FDEs looked at for one address when their ranges overlap */
    TABLE_ROW_BYTES = 8,
};

/* One entry as found in the section, CIE or FDE. */
struct entry {
    struct dwarf_bytes body; /* behind the id field */
    uint64_t next_offset;
    uint64_t cie_offset; /* FDE only */
    bool is_cie;
    bool is_terminator;
};

/* Reads a value by its encoding. field_elf_addr: where the value itself lies as linked. */
static uint64_t read_encoded(struct dwarf_bytes *bytes, uint8_t encoding, uint64_t field_elf_addr,
                             uint64_t data_base)
{
    uint64_t value = 0;

    switch (encoding & PE_FORMAT_MASK) {
    case PE_ABSPTR:
    case PE_UDATA8:
    case PE_SDATA8:
        value = dwarf_bytes_read(bytes, 8);
        break;
    case PE_ULEB128:
        value = dwarf_bytes_read_uleb(bytes);
        break;
    case PE_SLEB128:
        value = (uint64_t)dwarf_bytes_read_sleb(bytes);
        break;
    case PE_UDATA2:
        value = dwarf_bytes_read(bytes, 2);
        break;
    case PE_SDATA2:
        value = dwarf_bytes_read_signed(bytes, 2);
        break;
    case PE_UDATA4:
        value = dwarf_bytes_read(bytes, 4);
        break;
    case PE_SDATA4:
        value = dwarf_bytes_read_signed(bytes, 4);
        break;
    default:
        dwarf_bytes_fail(bytes);
    }
    switch (encoding & PE_BASE_MASK) {
    case 0:
        break;
    case PE_PCREL:
        value += field_elf_addr;
        break;
    case PE_DATAREL:
        value += data_base;
        break;
    default: /* textrel, funcrel, aligned: never made for x86-64 */
        dwarf_bytes_fail(bytes);
    }
    if (encoding & PE_INDIRECT)
        dwarf_bytes_fail(bytes); /* personality routines only; their value is not needed */
    return value;
}

static uint64_t address_of(const struct cfi_section *section, const uint8_t *at)
{
    return section->elf_addr + (uint64_t)(at - section->bytes);
}

/* Splits the entry at `offset`. Returns: false when there is none. */
static bool read_entry(const struct cfi_section *section, uint64_t offset, struct entry *entry_ret)
{
    struct dwarf_bytes bytes = {section->bytes, section->bytes + section->num_bytes, false};
    uint64_t length, id;
    bool is_64bit;
    const uint8_t *id_at;

    if (!dwarf_bytes_skip(&bytes, offset) || dwarf_bytes_left(&bytes) == 0)
        return false;
    length = dwarf_bytes_read(&bytes, 4);
    is_64bit = length == 0xffffffff;
    if (is_64bit)
        length = dwarf_bytes_read(&bytes, 8);
    if (bytes.is_bad || length > dwarf_bytes_left(&bytes))
        return false;
    bytes.limit = bytes.at + length;
    *entry_ret = (struct entry){.next_offset = (uint64_t)(bytes.limit - section->bytes)};
    entry_ret->is_terminator = length == 0;
    if (length == 0)
        return true;
    id_at = bytes.at;
    id = dwarf_bytes_read(&bytes, is_64bit ? 8 : 4);
    if (section->is_eh) {
        entry_ret->is_cie = id == 0;
        entry_ret->cie_offset = (uint64_t)(id_at - section->bytes) - id; /* relative to the field */
    } else {
        entry_ret->is_cie = id == (is_64bit ? UINT64_MAX : UINT32_MAX);
        entry_ret->cie_offset = id;
    }
    entry_ret->body = bytes;
    return !bytes.is_bad;
}

/* Reads the augmentation data that `letters` announce. Returns: false when it can't be skipped. */
static bool read_augmentation(const struct cfi_section *section, struct dwarf_bytes *bytes,
                              const char *letters, struct cfi_cie *cie)
{
    struct dwarf_bytes data = *bytes;

    cie->has_augmentation_size = letters[0] == 'z';
    if (cie->has_augmentation_size) {
        uint64_t length = dwarf_bytes_read_uleb(bytes);

        data = *bytes;
        if (!dwarf_bytes_skip(bytes, length))
            return false;
        data.limit = bytes->at;
    } else if (letters[0] != '\0') {
        return false; /* without 'z' nothing tells how long the rest is */
    }
    for (const char *letter = letters; *letter; letter++) {
        if (*letter == 'R') {
            cie->pointer_encoding = (uint8_t)dwarf_bytes_read(&data, 1);
        } else if (*letter == 'P') {
            uint8_t encoding = (uint8_t)dwarf_bytes_read(&data, 1);

            read_encoded(&data, encoding & PE_FORMAT_MASK, address_of(section, data.at), 0);
        } else if (*letter == 'L') {
            dwarf_bytes_read(&data, 1);
        } else if (*letter == 'S') {
            cie->is_signal_frame = true;
        } else if (*letter != 'z') {
            break; /* unknown: its data are skipped by their size */
        }
    }
    return !data.is_bad;
}

static bool read_cie(const struct cfi_section *section, uint64_t offset, struct cfi_cie *cie_ret)
{
    struct entry entry;
    struct dwarf_bytes *bytes = &entry.body;
    uint64_t version, return_register;
    char letters[16] = "";

    if (!read_entry(section, offset, &entry) || entry.is_terminator || !entry.is_cie)
        return false;
    *cie_ret = (struct cfi_cie){.pointer_encoding = PE_ABSPTR};
    version = dwarf_bytes_read(bytes, 1);
    if (version != 1 && version != 3 && version != 4)
        return false;
    for (size_t i = 0;; i++) {
        if (i == sizeof(letters))
            return false;
        letters[i] = (char)dwarf_bytes_read(bytes, 1);
        if (letters[i] == '\0')
            break;
    }
    if (version == 4 && dwarf_bytes_read(bytes, 2) != 8) /* address size 8, no segment selector */
        return false;
    cie_ret->code_alignment = dwarf_bytes_read_uleb(bytes);
    cie_ret->data_alignment = dwarf_bytes_read_sleb(bytes);
    return_register = version == 1 ? dwarf_bytes_read(bytes, 1) : dwarf_bytes_read_uleb(bytes);
    if (return_register != ARCH_REG_IP || !read_augmentation(section, bytes, letters, cie_ret))
        return false;
    cie_ret->program = bytes->at;
    cie_ret->program_limit = bytes->limit;
    return !bytes->is_bad;
}

/* Reads the range of an FDE whose CIE is known; leaves `bytes` behind it. */
static bool read_range(const struct cfi_section *section, struct dwarf_bytes *bytes,
                       uint8_t encoding, uint64_t *start_ret, uint64_t *limit_ret)
{
    uint64_t start = read_encoded(bytes, encoding, address_of(section, bytes->at), 0);
    uint64_t length = read_encoded(bytes, encoding & PE_FORMAT_MASK, 0, 0);

    if (bytes->is_bad || length > UINT64_MAX - start)
        return false;
    *start_ret = start;
    *limit_ret = start + length;
    return true;
}

static bool read_fde(const struct cfi_section *section, uint64_t offset, struct cfi_fde *fde_ret)
{
    struct entry entry;

    if (!read_entry(section, offset, &entry) || entry.is_terminator || entry.is_cie)
        return false;
    if (!read_cie(section, entry.cie_offset, &fde_ret->cie))
        return false;
    if (!read_range(section, &entry.body, fde_ret->cie.pointer_encoding, &fde_ret->start,
                    &fde_ret->limit))
        return false;
    if (fde_ret->cie.has_augmentation_size &&
        !dwarf_bytes_skip(&entry.body, dwarf_bytes_read_uleb(&entry.body)))
        return false;
    fde_ret->program = entry.body.at;
    fde_ret->program_limit = entry.body.limit;
    return !entry.body.is_bad;
}

static int compare_index_rows(const void *left, const void *right)
{
    const struct cfi_index_row *a = left;
    const struct cfi_index_row *b = right;

    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Lists all FDEs by address. Broken ones are left out; a broken length ends the list. */
static void build_index(struct cfi_section *section)
{
    struct cfi_cie cie = {0};
    uint64_t cie_offset = UINT64_MAX;
    struct entry entry;
    bool is_cie_good = false;

    section->is_indexed = true;
    for (uint64_t offset = 0; read_entry(section, offset, &entry); offset = entry.next_offset) {
        uint64_t start, limit;
        struct error *err;

        if (entry.is_terminator || entry.is_cie)
            continue; /* crtend's terminator may be followed by more: linkers concatenate */
        if (entry.cie_offset != cie_offset) {
            cie_offset = entry.cie_offset;
            is_cie_good = read_cie(section, cie_offset, &cie);
        }
        if (!is_cie_good ||
            !read_range(section, &entry.body, cie.pointer_encoding, &start, &limit) ||
            start == limit)
            continue;
        if (section->num_index_rows == MAX_INDEX_ROWS)
            break;
        err = array_reserve(&section->index, &section->index_capacity, section->num_index_rows + 1,
                            sizeof(*section->index));
        if (err) {
            error_destroy(err);
            break;
        }
        section->index[section->num_index_rows++] = (struct cfi_index_row){start, offset};
    }
    if (section->num_index_rows > 1)
        qsort(section->index, section->num_index_rows, sizeof(*section->index), compare_index_rows);
}

static bool find_by_index(struct cfi_section *section, uint64_t elf_addr, struct cfi_fde *fde_ret)
{
    size_t next;

    if (!section->is_indexed)
        build_index(section);
    next = array_search(section->num_index_rows, at, section->index[at].start <= elf_addr);
    /* Functions dropped by the linker leave FDEs at address 0 that overlap real ones. */
    for (int i = 0; i < MAX_OVERLAPS && next > 0; i++) {
        if (read_fde(section, section->index[--next].offset, fde_ret) &&
            elf_addr - fde_ret->start < fde_ret->limit - fde_ret->start)
            return true;
    }
    return false;
}

static uint64_t table_address(const struct cfi_section *section, size_t row, size_t column)
{
    int32_t value;

    memcpy(&value, section->table + row * TABLE_ROW_BYTES + 4 * column, sizeof(value));
    return section->table_base + (uint64_t)(int64_t)value;
}

static bool find_by_table(const struct cfi_section *section, uint64_t elf_addr,
                          struct cfi_fde *fde_ret)
{
    size_t next =
        array_search(section->num_table_rows, at, table_address(section, at, 0) <= elf_addr);

    if (next == 0)
        return false;
    return read_fde(section, table_address(section, next - 1, 1) - section->elf_addr, fde_ret) &&
           elf_addr - fde_ret->start < fde_ret->limit - fde_ret->start;
}

bool cfi_section_find(struct cfi_section *section, uint64_t elf_addr, struct cfi_fde *fde_ret)
{
    if (!section->bytes)
        return false;
    if (section->table)
        return find_by_table(section, elf_addr, fde_ret);
    return find_by_index(section, elf_addr, fde_ret);
}

/* Reads the fixed part of an .eh_frame_hdr. bytes: left at the field behind eh_frame_ptr. */
static bool read_header(struct dwarf_bytes *bytes, const uint8_t *header, uint64_t header_elf_addr,
                        uint8_t *encodings_ret, uint64_t *eh_frame_ret)
{
    uint64_t version = dwarf_bytes_read(bytes, 1);

    for (int i = 0; i < 3; i++) /* of eh_frame_ptr, fde_count, table */
        encodings_ret[i] = (uint8_t)dwarf_bytes_read(bytes, 1);
    if (bytes->is_bad || version != 1 || encodings_ret[0] == PE_OMIT)
        return false;
    *eh_frame_ret = read_encoded(bytes, encodings_ret[0],
                                 header_elf_addr + (uint64_t)(bytes->at - header), header_elf_addr);
    return !bytes->is_bad;
}

bool cfi_header_eh_frame(const uint8_t *header, size_t num_bytes, uint64_t header_elf_addr,
                         uint64_t *elf_addr_ret)
{
    struct dwarf_bytes bytes = {header, header + num_bytes, false};
    uint8_t encodings[3];

    return read_header(&bytes, header, header_elf_addr, encodings, elf_addr_ret);
}

void cfi_section_use_header(struct cfi_section *section, const uint8_t *header, size_t num_bytes,
                            uint64_t header_elf_addr)
{
    struct dwarf_bytes bytes = {header, header + num_bytes, false};
    uint8_t encodings[3];
    uint64_t eh_frame, count;

    if (!read_header(&bytes, header, header_elf_addr, encodings, &eh_frame) ||
        eh_frame != section->elf_addr || encodings[1] == PE_OMIT ||
        encodings[2] != (PE_DATAREL | PE_SDATA4))
        return;
    count = read_encoded(&bytes, encodings[1], header_elf_addr + (uint64_t)(bytes.at - header),
                         header_elf_addr);
    if (bytes.is_bad || count == 0 || count > dwarf_bytes_left(&bytes) / TABLE_ROW_BYTES)
        return;
    section->table = bytes.at;
    section->num_table_rows = (size_t)count;
    section->table_base = header_elf_addr;
}

void cfi_section_deinit(struct cfi_section *section)
{
    free(section->index);
    *section = (struct cfi_section){0};
}
