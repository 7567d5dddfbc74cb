/* Puts our decoder of instructions beside Zydis: every instruction in the code of a file.
 *
 * Usage: compare_insn FILE. Walks the executable segments as Zydis decodes them and compares
 * length, target of branches, written registers. Writes one JSON object; of differences the first
 * few as text to stderr.
 */
#include <Zydis/Zydis.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "sampler/x86_insn.h"
#include "target/module.h"

struct counts {
    uint64_t num_insns, num_undecoded, num_lengths, num_registers, num_targets, num_unknown;
};

static void tell(const char *what, uint64_t elf_addr, const uint8_t *bytes, size_t num_bytes)
{
    static int num_told;

    if (num_told++ >= 20)
        return;
    fprintf(stderr, "%s at %" PRIx64 ":", what, elf_addr);
    for (size_t i = 0; i < num_bytes; i++)
        fprintf(stderr, " %02x", bytes[i]);
    fputc('\n', stderr);
}

/* Tells which general registers the instruction writes, as Zydis has it. */
static uint32_t written_registers(const ZydisDecodedInstruction *insn,
                                  const ZydisDecodedOperand *operands)
{
    uint32_t writes = 0;

    for (size_t i = 0; i < insn->operand_count; i++) {
        ZydisRegister reg;

        if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, operands[i].reg.value);
        if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
            writes |= 1u << (reg - ZYDIS_REGISTER_RAX);
    }
    return writes;
}

static void compare(const uint8_t *bytes, uint64_t elf_addr, const ZydisDecodedInstruction *theirs,
                    const ZydisDecodedOperand *operands, struct counts *counts)
{
    struct x86_insn ours;
    ZyanU64 target;

    counts->num_insns++;
    if (!x86_insn_decode(bytes, theirs->length, &ours)) {
        counts->num_undecoded++;
        tell("not decoded", elf_addr, bytes, theirs->length);
        return;
    }
    if (ours.num_bytes != theirs->length) {
        counts->num_lengths++;
        tell("other length", elf_addr, bytes, theirs->length);
    }
    counts->num_unknown += ours.writes_all && theirs->meta.branch_type == ZYDIS_BRANCH_TYPE_NONE;
    if (!ours.writes_all && (written_registers(theirs, operands) & ~(uint32_t)ours.writes)) {
        counts->num_registers++;
        tell("other registers", elf_addr, bytes, theirs->length);
    }
    if (theirs->meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
        theirs->meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR) {
        bool is_relative = theirs->raw.imm[0].is_relative;

        if (is_relative &&
            (ZYAN_FAILED(ZydisCalcAbsoluteAddress(theirs, &operands[0], elf_addr, &target)) ||
             target != elf_addr + (uint64_t)ours.target || ours.kind == X86_OTHER)) {
            counts->num_targets++;
            tell("other target", elf_addr, bytes, theirs->length);
        }
    }
}

static void compare_segment(const struct module *module, const struct module_segment *segment,
                            const ZydisDecoder *decoder, struct counts *counts)
{
    uint8_t *bytes = malloc(segment->file_bytes);
    ssize_t num_bytes =
        bytes ? pread(module->fd, bytes, segment->file_bytes, (off_t)segment->file_off) : -1;

    for (size_t at = 0; num_bytes > 0 && at < (size_t)num_bytes;) {
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        ZydisDecodedInstruction insn;

        if (ZYAN_FAILED(ZydisDecoderDecodeFull(decoder, bytes + at, (size_t)num_bytes - at, &insn,
                                               operands))) {
            at++;
            continue;
        }
        if (insn.encoding != ZYDIS_INSTRUCTION_ENCODING_XOP)
            compare(bytes + at, segment->elf_addr + at, &insn, operands, counts);
        at += insn.length;
    }
    free(bytes);
}

int main(int argc, char **argv)
{
    struct module_table *table;
    struct module *module;
    struct counts counts = {0};
    ZydisDecoder decoder;

    if (argc != 2 || module_table_create(&table) || module_table_open_path(table, argv[1], &module))
        return 2;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (size_t i = 0; i < module->num_segments; i++)
        if (module->segments[i].is_executable)
            compare_segment(module, &module->segments[i], &decoder, &counts);
    printf("{\"insns\": %" PRIu64 ", \"undecoded\": %" PRIu64 ", \"lengths\": %" PRIu64
           ", \"registers\": %" PRIu64 ", \"targets\": %" PRIu64 ", \"unknown\": %" PRIu64 "}\n",
           counts.num_insns, counts.num_undecoded, counts.num_lengths, counts.num_registers,
           counts.num_targets, counts.num_unknown);
    module_table_destroy(table);
    return 0;
}
