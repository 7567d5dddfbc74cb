#include "sampler/x86_insn.h"

#include <string.h>

/* Prefixes and what they leave to the rest. */
struct decoder {
    const uint8_t *code;
    size_t num_bytes, at;
    uint8_t rex;
    uint8_t opcode;
    uint8_t map; /* 0: one byte, 1: 0f, 2: 0f 38, 3: 0f 3a */
    bool is_vex; /* VEX or EVEX: operands are vectors and masks */
    bool has_67;
    bool has_modrm;
    uint8_t mod, reg, rm; /* with REX */
    bool is_rip_relative;
    int32_t displacement;
    uint8_t imm_bytes;
    struct x86_insn *insn;
};

#define BIT(number) (1u << (number))

/* One bit for each opcode of a map, in rows of 16: has a ModRM byte. */
static const uint16_t one_byte_modrm[16] = {
    0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0000, 0x0000, 0x0a08, 0x0000,
    0xfffb, 0x0000, 0x0000, 0x0000, 0x00c3, 0xff0f, 0x0000, 0xc0c0,
};
static const uint16_t two_byte_no_modrm[16] = {
    /* 05-09, 0b, 0e, 30-37, 77, 80-8f, a0-a2, a8-aa, c8-cf */
    0x4be0, 0x0000, 0x0000, 0x00ff, 0x0000, 0x0000, 0x0000, 0x0080,
    0xffff, 0x0000, 0x0707, 0x0000, 0xff00, 0x0000, 0x0000, 0x0000,
};
/* One byte of immediate operand. */
static const uint16_t one_byte_imm8[16] = {
    0x1010, 0x1010, 0x1010, 0x1010, 0x0000, 0x0000, 0x0c00, 0xffff,
    0x0009, 0x0000, 0x0100, 0x00ff, 0x2043, 0x0000, 0x08ff, 0x0000,
};
static const uint16_t two_byte_imm8[16] = {
    0x8000, 0x0000, 0x0000, 0x0000, 0x0000, 0x0000, 0x0000, 0x000f,
    0x0000, 0x0000, 0x1010, 0x0400, 0x0074, 0x0000, 0x0000, 0x0000,
};
/* Four bytes, two behind 0x66 (but for branches). */
static const uint16_t one_byte_imm32[16] = {
    0x2020, 0x2020, 0x2020, 0x2020, 0x0000, 0x0000, 0x0300, 0x0000,
    0x0002, 0x0000, 0x0200, 0x0000, 0x0080, 0x0000, 0x0300, 0x0000,
};
/* No instruction in 64-bit mode. */
static const uint16_t one_byte_invalid[16] = {
    0x40c0, 0xc0c0, 0x8080, 0x8080, 0x0000, 0x0000, 0x0007, 0x0000,
    0x0004, 0x0400, 0x0000, 0x0000, 0x4000, 0x0070, 0x0400, 0x0000,
};

static bool has_bit(const uint16_t *rows, uint8_t opcode)
{
    return rows[opcode >> 4] >> (opcode & 15) & 1;
}

static bool next_byte(struct decoder *decoder, uint8_t *byte_ret)
{
    if (decoder->at >= decoder->num_bytes || decoder->at >= X86_MAX_INSN_BYTES)
        return false;
    *byte_ret = decoder->code[decoder->at++];
    return true;
}

static bool skip(struct decoder *decoder, size_t num_bytes)
{
    if (decoder->num_bytes - decoder->at < num_bytes ||
        decoder->at + num_bytes > X86_MAX_INSN_BYTES)
        return false;
    decoder->at += num_bytes;
    return true;
}

/* Takes one legacy prefix. Returns: false when it is none. */
static bool take_prefix(struct decoder *decoder, uint8_t byte)
{
    struct x86_insn *insn = decoder->insn;

    switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        insn->has_segment = true;
        return true;
    case 0x64:
    case 0x65:
        return true;
    case 0x66:
        insn->has_66 = true;
        return true;
    case 0x67:
        decoder->has_67 = true;
        return true;
    case 0xf0:
        insn->has_lock = true;
        return true;
    case 0xf2:
    case 0xf3:
        insn->has_rep = true;
        return true;
    default:
        return false;
    }
}

/* Prefixes; REX counts only right before the opcode. first_ret: what follows. */
static bool decode_prefixes(struct decoder *decoder, uint8_t *first_ret)
{
    while (next_byte(decoder, first_ret)) {
        bool is_rex = (*first_ret & 0xf0) == 0x40;

        if (!is_rex && !take_prefix(decoder, *first_ret))
            return true;
        decoder->rex = is_rex ? *first_ret : 0;
    }
    return false;
}

/* VEX (c4, c5) and EVEX (62): the map and the inverted high bits of the register numbers. */
static bool decode_vex(struct decoder *decoder, uint8_t first)
{
    uint8_t payload[3] = {0};
    size_t num = first == 0xc5 ? 1 : first == 0xc4 ? 2 : 3;

    if (decoder->rex || decoder->insn->has_66 || decoder->insn->has_rep || decoder->insn->has_lock)
        return false;
    for (size_t i = 0; i < num; i++)
        if (!next_byte(decoder, &payload[i]))
            return false;
    decoder->is_vex = true;
    decoder->map = first == 0xc5 ? 1 : payload[0] & (first == 0xc4 ? 0x1f : 7);
    decoder->rex = (uint8_t)(0x40 | (~payload[0] >> 7 & 1) << 2);
    if (first != 0xc5)
        decoder->rex |= (uint8_t)(~payload[0] >> 5 & 1);
    return decoder->map >= 1 && decoder->map <= 3 && next_byte(decoder, &decoder->opcode);
}

static bool decode_opcode(struct decoder *decoder, uint8_t first)
{
    decoder->opcode = first;
    if (first == 0xc4 || first == 0xc5 || first == 0x62)
        return decode_vex(decoder, first);
    if (first != 0x0f)
        return !has_bit(one_byte_invalid, first);
    decoder->map = 1;
    if (!next_byte(decoder, &decoder->opcode))
        return false;
    if (decoder->opcode == 0x38 || decoder->opcode == 0x3a) {
        decoder->map = decoder->opcode == 0x38 ? 2 : 3;
        return next_byte(decoder, &decoder->opcode);
    }
    return true;
}

static bool opcode_has_modrm(const struct decoder *decoder)
{
    if (decoder->map == 0)
        return has_bit(one_byte_modrm, decoder->opcode);
    if (decoder->map == 1 && decoder->is_vex)
        return decoder->opcode != 0x77; /* vzeroupper */
    return decoder->map > 1 || !has_bit(two_byte_no_modrm, decoder->opcode);
}

static bool decode_modrm(struct decoder *decoder)
{
    uint8_t modrm, sib;
    size_t num_displacement;

    decoder->has_modrm = opcode_has_modrm(decoder);
    if (!decoder->has_modrm)
        return true;
    if (!next_byte(decoder, &modrm))
        return false;
    decoder->mod = modrm >> 6;
    decoder->reg = (uint8_t)((modrm >> 3 & 7) | (decoder->rex & 4) << 1);
    decoder->rm = (uint8_t)((modrm & 7) | (decoder->rex & 1) << 3);
    /* Moves from and to control and debug registers have no memory operand, whatever mod says. */
    if (decoder->mod == 3 || (decoder->map == 1 && !decoder->is_vex && decoder->opcode >= 0x20 &&
                              decoder->opcode <= 0x23))
        return true;
    num_displacement = decoder->mod == 1 ? 1 : decoder->mod == 2 ? 4 : 0;
    if ((modrm & 7) == 4) {
        if (!next_byte(decoder, &sib))
            return false;
        if (decoder->mod == 0 && (sib & 7) == 5)
            num_displacement = 4;
    } else if (decoder->mod == 0 && (modrm & 7) == 5) {
        decoder->is_rip_relative = true;
        num_displacement = 4;
    }
    if (!skip(decoder, num_displacement))
        return false;
    if (num_displacement == 4)
        memcpy(&decoder->displacement, decoder->code + decoder->at - 4, 4);
    return true;
}

static bool is_relative_branch(const struct decoder *decoder)
{
    uint8_t opcode = decoder->opcode;

    if (decoder->map == 1)
        return !decoder->is_vex && opcode >= 0x80 && opcode <= 0x8f;
    return decoder->map == 0 &&
           (opcode == 0xe8 || opcode == 0xe9 || opcode == 0xeb ||
            (opcode >= 0x70 && opcode <= 0x7f) || (opcode >= 0xe0 && opcode <= 0xe3));
}

/* Immediate operands of the one-byte map that no table tells. */
static uint8_t one_byte_immediate(const struct decoder *decoder)
{
    uint8_t opcode = decoder->opcode;
    uint8_t word = decoder->insn->has_66 && !(decoder->rex & 8) ? 2 : 4;

    if (is_relative_branch(decoder))
        return opcode == 0xe8 || opcode == 0xe9 ? 4 : 1;
    if (opcode >= 0xb8 && opcode <= 0xbf)
        return decoder->rex & 8 ? 8 : word;
    if (opcode >= 0xa0 && opcode <= 0xa3)
        return decoder->has_67 ? 4 : 8;
    if (opcode == 0xc2 || opcode == 0xca)
        return 2;
    if (opcode == 0xc8)
        return 3;
    if ((opcode == 0xf6 || opcode == 0xf7) && (decoder->reg & 7) < 2)
        return opcode == 0xf6 ? 1 : word;
    if (has_bit(one_byte_imm8, opcode))
        return 1;
    return has_bit(one_byte_imm32, opcode) ? word : 0;
}

static bool decode_immediate(struct decoder *decoder)
{
    if (decoder->map == 0)
        decoder->imm_bytes = one_byte_immediate(decoder);
    else if (decoder->map == 1 && is_relative_branch(decoder))
        decoder->imm_bytes = 4;
    else if (decoder->map == 1)
        decoder->imm_bytes = has_bit(two_byte_imm8, decoder->opcode);
    else
        decoder->imm_bytes = decoder->map == 3;
    return skip(decoder, decoder->imm_bytes);
}

static void set_branch(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    const uint8_t *operand = decoder->code + decoder->at - decoder->imm_bytes;
    int32_t distance = 0;

    if (decoder->imm_bytes == 1)
        distance = *operand < 128 ? *operand : *operand - 256;
    else
        memcpy(&distance, operand, sizeof(distance));
    insn->target = (int64_t)decoder->at + distance;
    if (decoder->map == 1 || (decoder->opcode & 0xf0) == 0x70)
        insn->kind = X86_JCC;
    else if (decoder->opcode <= 0xe3)
        insn->kind = X86_LOOP;
    else
        insn->kind = decoder->opcode == 0xe8 ? X86_CALL : X86_JMP;
    insn->writes_all = insn->kind == X86_CALL || insn->kind == X86_LOOP;
}

/* The register behind a number as an operand of `is_byte`: without REX, 4-7 are the high bytes of
 * the first four. */
static uint16_t register_bit(const struct decoder *decoder, uint8_t number, bool is_byte)
{
    if (is_byte && !decoder->rex && number >= 4 && number <= 7)
        number -= 4;
    return (uint16_t)BIT(number);
}

static uint16_t rm_bit(const struct decoder *decoder, bool is_byte)
{
    return decoder->mod == 3 ? register_bit(decoder, decoder->rm, is_byte) : 0;
}

static uint16_t reg_bit(const struct decoder *decoder, bool is_byte)
{
    return register_bit(decoder, decoder->reg, is_byte);
}

static void set_unknown(struct x86_insn *insn, enum x86_kind kind)
{
    insn->kind = kind;
    insn->writes_all = true;
}

/* Opcodes fe and ff: what they do is in the middle of ModRM. */
static void set_group5(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    uint8_t group = decoder->reg & 7;

    if (group < 2) {
        insn->writes = rm_bit(decoder, decoder->opcode == 0xfe);
    } else if (decoder->opcode == 0xff && (group == 2 || group == 4) && decoder->is_rip_relative) {
        set_unknown(insn, group == 2 ? X86_CALL_SLOT : X86_JMP_SLOT);
        insn->target = (int64_t)decoder->at + decoder->displacement;
    } else if (decoder->opcode == 0xff && group == 6) {
        insn->writes = BIT(X86_RSP);
    } else {
        set_unknown(insn, group == 4 || group == 5 ? X86_END : X86_OTHER);
    }
}

/* Opcodes f6 and f7: test, test, not, neg, mul, imul, div, idiv. */
static void set_group3(struct decoder *decoder)
{
    uint8_t group = decoder->reg & 7;

    if (group == 2 || group == 3)
        decoder->insn->writes = rm_bit(decoder, decoder->opcode == 0xf6);
    else if (group > 3)
        decoder->insn->writes = BIT(X86_RAX) | BIT(X86_RDX);
}

/* 00-3f: add or adc sbb and sub xor cmp, in six forms. */
static void set_arithmetic(struct decoder *decoder)
{
    uint8_t form = decoder->opcode & 7;

    if (decoder->opcode >= 0x38)
        return; /* cmp */
    if (form < 2)
        decoder->insn->writes = rm_bit(decoder, form == 0);
    else
        decoder->insn->writes = form < 4 ? reg_bit(decoder, form == 2) : (uint16_t)BIT(X86_RAX);
}

/* mov of 8 bytes between registers. */
static void set_move(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    bool is_to_rm = decoder->opcode == 0x89;

    if (decoder->mod != 3 || !(decoder->rex & 8))
        return;
    insn->is_move = true;
    insn->from = is_to_rm ? decoder->reg : decoder->rm;
    insn->to = is_to_rm ? decoder->rm : decoder->reg;
}

/* 80-8f and the moves, shifts and exchanges that name a register or memory. */
static bool set_common(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    bool is_byte = !(decoder->opcode & 1);

    switch (decoder->opcode) {
    case 0x63: /* movsxd */
    case 0x69: /* imul */
    case 0x6b:
    case 0x8d: /* lea */
        insn->writes = reg_bit(decoder, false);
        return true;
    case 0x80: /* add ... cmp with an immediate */
    case 0x81:
    case 0x83:
        insn->writes = (decoder->reg & 7) == 7 ? 0 : rm_bit(decoder, is_byte);
        return true;
    case 0x84: /* test */
    case 0x85:
    case 0xa8:
    case 0xa9:
        return true;
    case 0x86: /* xchg */
    case 0x87:
        insn->writes = rm_bit(decoder, is_byte) | reg_bit(decoder, is_byte);
        return true;
    case 0x88: /* mov to r/m */
    case 0x89:
    case 0xc0: /* shifts */
    case 0xc1:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        insn->writes = rm_bit(decoder, is_byte);
        return true;
    case 0xc6: /* mov; other groups are of transactional memory, or nothing */
    case 0xc7:
        insn->writes = rm_bit(decoder, is_byte);
        insn->writes_all = (decoder->reg & 7) != 0;
        return true;
    case 0x8a: /* mov from r/m */
    case 0x8b:
        insn->writes = reg_bit(decoder, is_byte);
        return true;
    default:
        return false;
    }
}

/* Opcodes whose low bits are a register: push, pop, xchg, mov. */
static bool set_register_opcode(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    uint8_t opcode = decoder->opcode;
    uint8_t number = (uint8_t)((opcode & 7) | (decoder->rex & 1) << 3);

    switch (opcode & 0xf8) {
    case 0x50:
        insn->kind = X86_PUSH;
        insn->writes = BIT(X86_RSP);
        return true;
    case 0x58:
        insn->writes = (uint16_t)(BIT(X86_RSP) | BIT(number));
        return true;
    case 0x90:
        if (number == 0)
            insn->kind = X86_NOP;
        else
            insn->writes = (uint16_t)(BIT(X86_RAX) | BIT(number));
        return true;
    case 0xb0:
    case 0xb8:
        insn->writes = register_bit(decoder, number, opcode < 0xb8);
        return true;
    default:
        return false;
    }
}

static void set_one_byte(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    uint8_t opcode = decoder->opcode;

    if (opcode < 0x40) {
        set_arithmetic(decoder);
    } else if (set_register_opcode(decoder) || set_common(decoder)) {
        return;
    } else if (opcode == 0x68 || opcode == 0x6a || opcode == 0x9c) {
        insn->writes = BIT(X86_RSP); /* push */
    } else if (opcode == 0x98 || opcode == 0x99) {
        insn->writes = (uint16_t)BIT(opcode == 0x98 ? X86_RAX : X86_RDX);
    } else if (opcode == 0xf6 || opcode == 0xf7) {
        set_group3(decoder);
    } else if (opcode == 0xfe || opcode == 0xff) {
        set_group5(decoder);
    } else {
        bool is_end = opcode == 0xc2 || opcode == 0xc3 || opcode == 0xca || opcode == 0xcb ||
                      opcode == 0xcc || opcode == 0xcf || opcode == 0xf4;

        set_unknown(insn, is_end ? X86_END : X86_OTHER);
        insn->is_privileged =
            (opcode >= 0x6c && opcode <= 0x6f) || (opcode >= 0xe4 && opcode <= 0xe7) ||
            (opcode >= 0xec && opcode <= 0xef) || (opcode >= 0xcc && opcode <= 0xcf) ||
            opcode == 0xf1 || opcode == 0xf4 || opcode == 0xfa || opcode == 0xfb;
    }
}

/* Opcodes behind 0f that write nothing but vectors, memory or flags. */
static bool writes_no_register(const struct decoder *decoder)
{
    uint8_t opcode = decoder->opcode;

    if (opcode >= 0x18 && opcode <= 0x1f) /* hints: prefetch, endbr64, long nops */
        return !(opcode == 0x1e && decoder->insn->has_rep && decoder->mod == 3 &&
                 (decoder->reg & 7) == 1) /* but rdssp */
               && opcode != 0x1a && opcode != 0x1b;
    if ((opcode >= 0x10 && opcode <= 0x17) || (opcode >= 0x28 && opcode <= 0x2f))
        return opcode != 0x2c && opcode != 0x2d; /* cvt*2si */
    if (opcode >= 0x51 && opcode <= 0x7f)
        return opcode != 0x7e && opcode != 0x78 && opcode != 0x79;
    return opcode == 0xa3 || opcode == 0xc2 || opcode == 0xc3 || opcode == 0xc4 || opcode == 0xc6 ||
           (opcode >= 0xd0 && opcode != 0xd7 && opcode != 0xff);
}

static void set_two_byte(struct decoder *decoder)
{
    struct x86_insn *insn = decoder->insn;
    uint8_t opcode = decoder->opcode;
    uint8_t number = (uint8_t)((opcode & 7) | (decoder->rex & 1) << 3);

    if (writes_no_register(decoder))
        return;
    if ((opcode >= 0x40 && opcode <= 0x50) || opcode == 0xaf || opcode == 0xb6 || opcode == 0xb7 ||
        opcode == 0xb8 || (opcode >= 0xbc && opcode <= 0xbf) || opcode == 0x2c || opcode == 0x2d ||
        opcode == 0xc5 || opcode == 0xd7)
        insn->writes = reg_bit(decoder, false); /* cmov, movmsk, imul, movzx, bsf ... */
    else if (opcode >= 0x90 && opcode <= 0x9f)
        insn->writes = rm_bit(decoder, true); /* set */
    else if (opcode == 0x7e || opcode == 0xa4 || opcode == 0xa5 || opcode == 0xab ||
             opcode == 0xac || opcode == 0xad || opcode == 0xb3 || opcode == 0xba || opcode == 0xbb)
        insn->writes = rm_bit(decoder, false); /* movd, shld, bts ... */
    else if (opcode == 0xb0 || opcode == 0xb1)
        insn->writes = (uint16_t)(rm_bit(decoder, opcode == 0xb0) | BIT(X86_RAX)); /* cmpxchg */
    else if (opcode == 0xc0 || opcode == 0xc1)
        insn->writes = rm_bit(decoder, opcode == 0xc0) | reg_bit(decoder, opcode == 0xc0);
    else if (opcode >= 0xc8 && opcode <= 0xcf)
        insn->writes = (uint16_t)BIT(number); /* bswap */
    else if (opcode == 0xae)
        insn->writes = insn->has_rep ? rm_bit(decoder, false) : 0; /* fences, rdfsbase */
    else
        set_unknown(insn, opcode == 0x0b ? X86_END : X86_OTHER);
    insn->is_privileged = opcode <= 0x0b && opcode != 0x0b && opcode != 0x05 && opcode != 0x01;
}

bool x86_insn_decode(const uint8_t *code, size_t num_bytes, struct x86_insn *insn_ret)
{
    struct x86_insn insn = {0};
    struct decoder decoder = {.code = code, .num_bytes = num_bytes, .insn = &insn};
    uint8_t first;

    if (!decode_prefixes(&decoder, &first) || !decode_opcode(&decoder, first) ||
        !decode_modrm(&decoder) || !decode_immediate(&decoder))
        return false;
    if (decoder.map == 0 && decoder.opcode == 0x8f && (decoder.reg & 7) != 0)
        return false; /* no pop: AMD's XOP, which has left the processors */
    insn.num_bytes = (uint8_t)decoder.at;
    if (is_relative_branch(&decoder))
        set_branch(&decoder);
    else if (decoder.is_vex || decoder.map > 1)
        insn.writes_all = true; /* a few of them write general registers: not worth a table */
    else if (decoder.map == 1)
        set_two_byte(&decoder);
    else
        set_one_byte(&decoder);
    if (decoder.map == 0 && (decoder.opcode == 0x89 || decoder.opcode == 0x8b))
        set_move(&decoder);
    *insn_ret = insn;
    return true;
}
