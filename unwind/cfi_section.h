/* One section of call frame information, .eh_frame or .debug_frame: finding the entry (FDE) that
 * covers an address, by the file's own .eh_frame_hdr or by an index made on first use.
 *
 * Own reader, not libdw's: libdw 0.188 spends 3 s and 1 GB on one crafted entry of 20 bytes, and
 * refuses sections of type SHT_X86_64_UNWIND. Not the programs in the entries
 * (cfi_row.h). Ownership: borrows the section's bytes, owns its index. Threads: none. Source: DWARF
 * 5 section 6.4.1; LSB 5 "Exception Frames" (.eh_frame, .eh_frame_hdr, DW_EH_PE_*).
 */
#ifndef UNWIND_CFI_SECTION_H
#define UNWIND_CFI_SECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cfi_index_row {
    uint64_t start;  /* first elf_addr covered */
    uint64_t offset; /* of the FDE in the section */
};

struct cfi_section {
    const uint8_t *bytes; /* NULL: there is no such section */
    size_t num_bytes;
    uint64_t elf_addr; /* of the first byte; 0 for .debug_frame */
    bool is_eh;

    const uint8_t *table; /* binary search table of .eh_frame_hdr, or NULL */
    size_t num_table_rows;
    uint64_t table_base; /* what its numbers are relative to */

    struct cfi_index_row *index; /* made when there is no table */
    size_t num_index_rows, index_capacity;
    bool is_indexed;
};

/* What a CIE says for all its FDEs. */
struct cfi_cie {
    uint64_t code_alignment;
    int64_t data_alignment;
    uint8_t pointer_encoding; /* DW_EH_PE_* of addresses in its FDEs */
    bool has_augmentation_size;
    bool is_signal_frame; /* 'S': the frame was interrupted, it did not call */
    const uint8_t *program;
    const uint8_t *program_limit;
};

/* One FDE: the instructions for elf addresses [start, limit). */
struct cfi_fde {
    uint64_t start;
    uint64_t limit;
    const uint8_t *program;
    const uint8_t *program_limit;
    struct cfi_cie cie;
};

/* Uses the search table of an .eh_frame_hdr when it has the one usual form (sorted pairs of 32-bit
 * offsets); else the section keeps to its own index.
 * header: bytes of .eh_frame_hdr. header_elf_addr: where they lie as linked. */
void cfi_section_use_header(struct cfi_section *section, const uint8_t *header, size_t num_bytes,
                            uint64_t header_elf_addr);

/* Tells where .eh_frame begins, as its .eh_frame_hdr says (for files without section headers).
 * elf_addr_ret: the address as linked. Returns: false when the header makes no sense. */
bool cfi_header_eh_frame(const uint8_t *header, size_t num_bytes, uint64_t header_elf_addr,
                         uint64_t *elf_addr_ret);

/* Finds the FDE that covers `elf_addr`. fde_ret: points into the section's bytes.
 * Returns: false when there is none (or it is broken). */
bool cfi_section_find(struct cfi_section *section, uint64_t elf_addr, struct cfi_fde *fde_ret);

/* Frees the index. A zeroed section is fine. */
void cfi_section_deinit(struct cfi_section *section);

#endif
