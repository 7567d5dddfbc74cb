/* libFuzzer target: CFI sections of unwind/, from the search table to the row.
 *
 * Input: 1 byte of flags (1: .eh_frame, 2: with .eh_frame_hdr), 2 bytes length of the header, the
 * header, the section. Sections lie at fixed addresses; look-ups spread over what they may cover.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "unwind/cfi_row.h"
#include "unwind/cfi_section.h"

#define HEADER_ADDR 0x2000
#define SECTION_ADDR 0x3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes);

static uint8_t *copy_exact(const uint8_t *bytes, size_t num_bytes)
{
    uint8_t *copy = malloc(num_bytes ? num_bytes : 1);

    if (copy)
        memcpy(copy, bytes, num_bytes);
    return copy;
}

static void look_up(struct cfi_section *section, uint64_t elf_addr)
{
    uint64_t work = 20000;
    struct cfi_fde fde;
    struct cfi_row row;

    if (!cfi_section_find(section, elf_addr, &fde))
        return;
    if (elf_addr < fde.start || elf_addr >= fde.limit)
        abort();
    if (!cfi_row_compute(&fde, elf_addr, &work, &row))
        return;
    for (unsigned reg = 0; reg < ARCH_NUM_REGS; reg++) {
        const struct cfi_value *value = &row.regs[reg];

        if ((value->kind == CFI_EXPR || value->kind == CFI_VAL_EXPR) &&
            (value->expr < section->bytes ||
             value->expr_bytes > section->num_bytes - (size_t)(value->expr - section->bytes)))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t num_bytes)
{
    struct cfi_section section = {0};
    size_t header_bytes;
    uint8_t *header, *bytes;

    if (num_bytes < 3)
        return 0;
    header_bytes = data[1] | (size_t)data[2] << 8;
    if (header_bytes > num_bytes - 3)
        header_bytes = num_bytes - 3;
    header = copy_exact(data + 3, header_bytes);
    bytes = copy_exact(data + 3 + header_bytes, num_bytes - 3 - header_bytes);
    if (header && bytes) {
        uint64_t eh_frame;

        section.bytes = bytes;
        section.num_bytes = num_bytes - 3 - header_bytes;
        section.is_eh = data[0] & 1;
        section.elf_addr = section.is_eh ? SECTION_ADDR : 0;
        if (data[0] & 2) {
            cfi_header_eh_frame(header, header_bytes, HEADER_ADDR, &eh_frame);
            cfi_section_use_header(&section, header, header_bytes, HEADER_ADDR);
        }
        for (uint64_t addr = 0; addr < 0x8000; addr += 0x333)
            look_up(&section, addr);
        look_up(&section, UINT64_MAX);
        for (size_t i = 0; i < section.num_index_rows && i < 16; i++)
            look_up(&section, section.index[i].start);
    }
    cfi_section_deinit(&section);
    free(header);
    free(bytes);
    return 0;
}
