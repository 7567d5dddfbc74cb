#include "unwind/arch_x86_64.h"

#include <string.h>

bool arch_is_sigreturn(const uint8_t *code, size_t num_bytes)
{
    static const uint8_t long_form[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
    static const uint8_t short_form[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

    return (num_bytes >= sizeof(long_form) && memcmp(code, long_form, sizeof(long_form)) == 0) ||
           (num_bytes >= sizeof(short_form) && memcmp(code, short_form, sizeof(short_form)) == 0);
}

bool arch_is_thread_exit(const uint8_t *code, size_t num_bytes)
{
    /* Go's runtime.clone sets the status first (5 bytes), musl's clears rdi or eax. */
    static const uint8_t long_form[] = {0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05};
    static const uint8_t short_form[] = {0xb0, 0x3c, 0x0f, 0x05};
    enum { MAX_AHEAD = 5 };

    for (size_t i = 0; i <= MAX_AHEAD && i < num_bytes; i++) {
        size_t num_left = num_bytes - i;

        if ((num_left >= sizeof(long_form) &&
             memcmp(code + i, long_form, sizeof(long_form)) == 0) ||
            (num_left >= sizeof(short_form) &&
             memcmp(code + i, short_form, sizeof(short_form)) == 0))
            return true;
    }
    return false;
}

bool arch_is_behind_call(const uint8_t *code, int32_t *distance_ret)
{
    const uint8_t *end = code + ARCH_CALL_BYTES;

    *distance_ret = 0;
    if (end[-5] == 0xe8) { /* call rel32 */
        memcpy(distance_ret, end - 4, sizeof(*distance_ret));
        return true;
    }
    /* ff /2: by register, [register], [sib], + disp8, + disp32 (rip-relative, too). The ModRM byte
     * follows; its middle three bits are 2. Intel SDM vol. 2, CALL. */
    for (int length = 2; length <= ARCH_CALL_BYTES; length++)
        if (length != 5 && end[-length] == 0xff && (end[1 - length] & 0x38) == 0x10)
            return true;
    return false;
}

unsigned arch_sigreturn_offset(unsigned reg)
{
    /* uc_mcontext begins at byte 40 of struct ucontext; order of its fields as in sigcontext.h:
     * r8-r15, di, si, bp, bx, dx, ax, cx, sp, ip. Indexed by DWARF register number. */
    static const uint8_t words[ARCH_NUM_REGS] = {13, 12, 14, 11, 9, 8, 10, 15, 0,
                                                 1,  2,  3,  4,  5, 6, 7,  16};

    return 40 + 8U * words[reg < ARCH_NUM_REGS ? reg : 0];
}
