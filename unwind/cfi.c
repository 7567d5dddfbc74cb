/* The engine: from frame to frame by cached rules. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "unwind/arch_x86_64.h"
#include "unwind/cfi_rule.h"
#include "unwind/expr.h"
#include "unwind/frame_memory.h"
#include "unwind/live_tail.h"
#include "unwind/rule_cache.h"
#include "unwind/unwind.h"

enum {
    MAX_ROWS = 1024,           /* rows kept for rules that don't fit an entry: 300 KB at most */
    WORK_PER_STACK = 2 << 20,  /* CFI instructions and expression steps: about 10 ms */
    MAX_LEAF_BYTES = 1 << 16,  /* of a function without CFI, from its start to the pc */
    MAX_EXECVE_NS = 100000000, /* how long an execve may take to set up the new program */
    MAX_START_BYTES = 256,     /* of stack that musl's start code uses */
    MAX_FRAME_BYTES = 1 << 24, /* a frame pointer farther above the stack pointer is none */
};

struct unwinder {
    struct unwind_options options;
    struct target *target;
    struct rule_cache cache;
    struct cfi_row *rows; /* of RULE_ROW rules in the cache */
    uint32_t num_rows;
    uint8_t *window; /* for struct stack_reader */
    struct frame_memory memory;
    struct frame_state *path; /* of the walk under way, while there is a memory; else NULL */
    struct unwind_stats stats;
};

/* One walk up one stack. */
struct walk {
    struct unwinder *unwinder;
    struct process *process;
    struct callchain *chain;
    struct stack_reader reader;
    uint64_t regs[ARCH_NUM_REGS];
    uint32_t known;           /* bit r: regs[r] is known */
    bool is_call;             /* regs[IP] is a return address; else execution stood there */
    bool is_behind_start;     /* the frame below was a start of a stack made by hand */
    bool has_reread;          /* maps were re-read for this stack */
    bool is_thorough;         /* track all registers, whatever it costs */
    bool needs_thorough;      /* stopped for want of a register that a thorough walk would know */
    bool is_recalling;        /* go on by the frame memory behind the copy */
    uint32_t num_steps;       /* frames in unwinder->path */
    uint32_t sure_frames;     /* frames known without live bytes or memory, once those are used */
    uint64_t work;            /* budget, see WORK_PER_STACK */
    enum frame_reason reason; /* why the walk stopped */
    struct cfi_row row;
};

/* What became of a step. */
enum step { STEP_ON, STEP_ROOT, STEP_STOP };

static enum step stop(struct walk *walk, enum frame_reason reason)
{
    walk->reason = reason;
    return STEP_STOP;
}

/* A read failed: was the stack cut off there, or is the address nonsense? */
static enum step stop_unreadable(struct walk *walk, uint64_t stack_addr)
{
    uint64_t distance = stack_addr + 7 - (walk->reader.copy_start + walk->reader.copy_bytes);

    return stop(walk, distance < LIVE_MAX_DISTANCE || walk->reader.may_read_anywhere
                          ? REASON_TRUNCATED
                          : REASON_BAD_CFA);
}

static bool is_known(const struct walk *walk, unsigned reg)
{
    return walk->known & (1U << reg);
}

/* A caller's frame lies above. Where execution merely stood, nothing need have been pushed. */
static bool has_cfa_grown(const struct walk *walk, uint64_t cfa)
{
    return cfa > walk->regs[ARCH_REG_SP] || (!walk->is_call && cfa == walk->regs[ARCH_REG_SP]);
}

/* Tells whether a save slot lies below the stack pointer, where nothing is kept: the epilogue has
 * popped it, and the register holds its value again. gcc does not say so in its CFI after `leave`,
 * and the copied stack has no bytes there. */
static bool is_popped(const struct walk *walk, uint64_t stack_addr)
{
    return !walk->is_call && stack_addr < walk->regs[ARCH_REG_SP];
}

static bool read_word(struct walk *walk, uint64_t stack_addr, uint64_t *value_ret)
{
    return stack_read(&walk->reader, stack_addr, sizeof(*value_ret), value_ret);
}

/* expr_context.read */
static bool read_for_expr(void *memory, uint64_t stack_addr, size_t num_bytes, uint64_t *value_ret)
{
    struct stack_reader *reader = memory;

    return stack_read(reader, stack_addr, num_bytes, value_ret);
}

static const struct vma *find_vma(const struct walk *walk, uint64_t pc)
{
    return walk->process->maps ? maps_find(walk->process->maps, pc) : NULL;
}

/* Finds the mapping of a pc, looking into /proc once per stack when the events told of none. */
static const struct vma *find_vma_or_reread(struct walk *walk, uint64_t pc)
{
    const struct vma *vma = find_vma(walk, pc);

    if (vma || walk->has_reread || walk->process->has_ended)
        return vma;
    walk->has_reread = true;
    return target_reread_maps(walk->unwinder->target, walk->process) ? find_vma(walk, pc) : NULL;
}

/* Keeps a row for the cache. Returns: its index; the cache starts anew when there are too many. */
static uint32_t keep_row(struct unwinder *unwinder, const struct cfi_row *row)
{
    if (unwinder->num_rows == MAX_ROWS) {
        rule_cache_clear(&unwinder->cache);
        unwinder->num_rows = 0;
    }
    unwinder->rows[unwinder->num_rows] = *row;
    return unwinder->num_rows++;
}

static struct unwind_rule make_rule(struct walk *walk, const struct vma *vma, uint64_t pc)
{
    if (!vma->module || !vma->has_bias)
        return (struct unwind_rule){.kind = RULE_NO_CFI};
    return cfi_rule_find(vma->module, vma_elf_addr(vma, pc), walk->is_call, &walk->work,
                         &walk->row);
}

/* Finds mapping and rule of `pc` by way of the cache. vma_ret: the mapping; NULL: there is none. */
static struct unwind_rule find_rule(struct walk *walk, uint64_t pc, const struct vma **vma_ret)
{
    struct unwinder *unwinder = walk->unwinder;
    const struct maps *maps = walk->process->maps;
    uint32_t generation = maps ? maps->generation : 0;
    struct rule_cache_entry *slot = rule_cache_slot(&unwinder->cache, pc, generation);
    struct unwind_rule rule = {.kind = RULE_EMPTY};

    if (LIKELY(maps && !walk->is_thorough && rule_cache_holds(slot, pc, generation))) {
        const struct vma *hinted = maps->vmas + slot->vma_hint;

        unwinder->stats.num_cache_hits++;
        *vma_ret =
            slot->vma_hint < maps->num_vmas && pc - hinted->start < hinted->limit - hinted->start
                ? hinted
                : find_vma(walk, pc);
        return slot->rule;
    }
    unwinder->stats.num_cache_misses++;
    *vma_ret = find_vma_or_reread(walk, pc);
    if (!*vma_ret)
        return rule;
    rule = make_rule(walk, *vma_ret, pc);
    if (walk->is_thorough || rule.kind == RULE_EMPTY)
        return rule;
    if (rule.kind == RULE_ROW)
        rule.row_index = keep_row(unwinder, &walk->row);
    maps = walk->process->maps; /* re-reading may have replaced them */
    slot = rule_cache_slot(&unwinder->cache, pc, maps->generation);
    *slot =
        (struct rule_cache_entry){pc, maps->generation, (uint32_t)(*vma_ret - maps->vmas), rule};
    return rule;
}

static enum step step_simple(struct walk *walk, const struct unwind_rule *rule)
{
    uint64_t cfa = walk->regs[rule->cfa_reg] + (uint64_t)(int64_t)rule->cfa_offset;
    uint64_t bp_addr = cfa + (uint64_t)(int64_t)rule->bp_offset;
    uint64_t ra_addr = cfa + (uint64_t)(int64_t)rule->ra_offset;
    uint32_t known = (1U << ARCH_REG_IP) | (1U << ARCH_REG_SP);

    if (UNLIKELY(!is_known(walk, rule->cfa_reg))) {
        walk->needs_thorough = true;
        return stop(walk, REASON_BAD_CFA);
    }
    if (UNLIKELY(!has_cfa_grown(walk, cfa)))
        return stop(walk, REASON_BAD_CFA);
    if (UNLIKELY(!read_word(walk, ra_addr, &walk->regs[ARCH_REG_IP])))
        return stop_unreadable(walk, ra_addr);
    if (rule->bp == RULE_BP_SAME || (rule->bp == RULE_BP_SAVED && is_popped(walk, bp_addr)))
        known |= walk->known & (1U << ARCH_REG_BP);
    else if (rule->bp == RULE_BP_SAVED && read_word(walk, bp_addr, &walk->regs[ARCH_REG_BP]))
        known |= 1U << ARCH_REG_BP;
    walk->regs[ARCH_REG_SP] = cfa;
    walk->known = known;
    walk->is_call = true;
    return STEP_ON;
}

static bool evaluate(struct walk *walk, const struct cfi_value *value, bool has_cfa, uint64_t cfa,
                     uint64_t *result_ret)
{
    const struct expr_context context = {walk->regs, walk->known, read_for_expr, &walk->reader};

    return expr_evaluate(value->expr, value->expr_bytes, &context, has_cfa, cfa, &walk->work,
                         result_ret);
}

/* Finds the caller's value of one register by its rule. addr_ret: where it is saved, if it is.
 * Returns: false when it can't be known. */
static bool recover_reg(struct walk *walk, const struct cfi_row *row, unsigned reg, uint64_t cfa,
                        uint64_t *addr_ret, uint64_t *value_ret)
{
    const struct cfi_value *rule = &row->regs[reg];

    switch (rule->kind) {
    case CFI_UNSPECIFIED:
        if (reg == ARCH_REG_SP) {
            *value_ret = cfa;
            return true;
        }
        if (!((1U << reg) & ARCH_CALLEE_SAVED))
            return false;
        *value_ret = walk->regs[reg];
        return is_known(walk, reg);
    case CFI_SAME:
        *value_ret = walk->regs[reg];
        return is_known(walk, reg);
    case CFI_OFFSET:
        *addr_ret = cfa + (uint64_t)rule->offset;
        if (((1U << reg) & ARCH_CALLEE_SAVED) && is_popped(walk, *addr_ret)) {
            *value_ret = walk->regs[reg];
            return is_known(walk, reg);
        }
        return read_word(walk, *addr_ret, value_ret);
    case CFI_VAL_OFFSET:
        *value_ret = cfa + (uint64_t)rule->offset;
        return true;
    case CFI_REGISTER:
        *value_ret = walk->regs[rule->reg];
        return is_known(walk, rule->reg);
    case CFI_EXPR:
        return evaluate(walk, rule, true, cfa, addr_ret) && read_word(walk, *addr_ret, value_ret);
    case CFI_VAL_EXPR:
        return evaluate(walk, rule, true, cfa, value_ret);
    default:
        return false;
    }
}

static bool find_cfa(struct walk *walk, const struct cfi_row *row, uint64_t *cfa_ret)
{
    if (row->cfa.kind == CFI_VAL_EXPR)
        return evaluate(walk, &row->cfa, false, 0, cfa_ret);
    if (row->cfa.kind != CFI_REGISTER || !is_known(walk, row->cfa.reg))
        return false;
    *cfa_ret = walk->regs[row->cfa.reg] + (uint64_t)row->cfa.offset;
    return true;
}

/* Steps by a whole row: expressions, signal frames, and every frame of a thorough walk. */
static enum step step_row(struct walk *walk, const struct cfi_row *row)
{
    uint64_t values[ARCH_NUM_REGS] = {0};
    /* Signal frames, longjmp and swapcontext say where the stack pointer goes: to another stack. */
    bool is_switch = row->is_signal_frame || (row->regs[ARCH_REG_SP].kind != CFI_UNSPECIFIED &&
                                              row->regs[ARCH_REG_SP].kind != CFI_VAL_OFFSET);
    uint64_t cfa, stack_addr = 0;
    uint32_t known = 0;

    if (!find_cfa(walk, row, &cfa)) {
        walk->needs_thorough = true;
        return stop(walk, REASON_BAD_CFA);
    }
    if (!is_switch && !has_cfa_grown(walk, cfa))
        return stop(walk, REASON_BAD_CFA);
    for (unsigned reg = 0; reg < ARCH_NUM_REGS; reg++) {
        stack_addr = 0;
        if (recover_reg(walk, row, reg, cfa, &stack_addr, &values[reg]))
            known |= 1U << reg;
        else if (reg == ARCH_REG_IP || reg == ARCH_REG_SP)
            return stack_addr ? stop_unreadable(walk, stack_addr) : stop(walk, REASON_BAD_CFA);
    }
    memcpy(walk->regs, values, sizeof(values));
    walk->known = known;
    walk->is_call = !row->is_signal_frame;
    walk->reader.may_read_anywhere |= is_switch;
    return STEP_ON;
}

/* Steps from a signal trampoline to the interrupted code by the kernel's own frame. */
static enum step step_sigreturn(struct walk *walk)
{
    uint64_t sp = walk->regs[ARCH_REG_SP];

    for (unsigned reg = 0; reg < ARCH_NUM_REGS; reg++) {
        uint64_t stack_addr = sp + arch_sigreturn_offset(reg);

        if (!read_word(walk, stack_addr, &walk->regs[reg]))
            return stop_unreadable(walk, stack_addr);
    }
    walk->known = ARCH_ALL_REGS;
    walk->is_call = false;
    walk->reader.may_read_anywhere = true;
    return STEP_ON;
}

static bool is_return_address(const struct walk *walk, uint64_t value)
{
    return value != 0 && find_vma(walk, arch_call_pc(value));
}

/* Takes the frame at rbp: saved rbp, return address. is_go: a pair of zeros is the end of a chain;
 * elsewhere rbp may be any register that points at zeros. Returns: STEP_STOP: it can't be one. */
static enum step take_frame_pointer(struct walk *walk, bool is_go)
{
    uint64_t bp = walk->regs[ARCH_REG_BP];
    uint64_t saved_bp, return_address;

    if (!read_word(walk, bp + 8, &return_address) || !read_word(walk, bp, &saved_bp)) {
        if (walk->is_call && bp + 15 - walk->reader.copy_start >= walk->reader.copy_bytes)
            walk->reason = REASON_TRUNCATED; /* the chain goes on behind the copy */
        return STEP_STOP;
    }
    if (is_go && return_address == 0 && saved_bp == 0)
        return STEP_ROOT;
    if (!is_return_address(walk, return_address))
        return STEP_STOP;
    walk->regs[ARCH_REG_IP] = return_address;
    walk->regs[ARCH_REG_SP] = bp + 16;
    walk->regs[ARCH_REG_BP] = saved_bp;
    walk->known = (1U << ARCH_REG_IP) | (1U << ARCH_REG_SP) | (1U << ARCH_REG_BP);
    walk->is_call = true;
    return STEP_ON;
}

/* Steps along the frame pointer, if rbp looks like one: aligned, not below the stack pointer, a
 * return address into a mapping above it. The saved rbp itself may be anything (a caller with CFI
 * needs no frame pointer); if it is used next, it is checked next.
 * may_switch_stacks: the frame may lie on another stack (Go, see step_go()). */
static enum step step_frame_pointer(struct walk *walk, bool may_switch_stacks)
{
    uint64_t bp = walk->regs[ARCH_REG_BP];

    if (!is_known(walk, ARCH_REG_BP) || bp % 8 != 0)
        return STEP_STOP;
    if (bp - walk->regs[ARCH_REG_SP] > MAX_FRAME_BYTES) {
        if (!may_switch_stacks || bp == 0)
            return STEP_STOP;
        walk->reader.may_read_anywhere = true;
    }
    return take_frame_pointer(walk, may_switch_stacks);
}

/* Steps in Go code. runtime.systemstack, mcall and morestack run on the thread's g0 stack, above
 * which there is no return address; rbp still leads to the goroutine's stack, or is 0 in mcall. */
static enum step step_go(struct walk *walk, const struct unwind_rule *rule)
{
    uint64_t sp = walk->regs[ARCH_REG_SP], bp = walk->regs[ARCH_REG_BP];
    uint32_t known = walk->known;
    enum step step = step_simple(walk, rule);

    bool is_null = walk->regs[ARCH_REG_IP] == 0;

    if (step != STEP_ON || is_return_address(walk, walk->regs[ARCH_REG_IP]))
        return step;
    if (!(known & (1U << ARCH_REG_BP)) || bp % 8 != 0)
        return is_null ? STEP_ROOT : stop(walk, REASON_NO_MAPPING);
    if (bp == 0)
        return STEP_ROOT;
    walk->regs[ARCH_REG_SP] = sp;
    walk->regs[ARCH_REG_BP] = bp;
    walk->reader.may_read_anywhere = true;
    step = take_frame_pointer(walk, true);
    if (step == STEP_STOP && walk->reason == REASON_NONE)
        return is_null ? STEP_ROOT : stop(walk, REASON_NO_MAPPING);
    return step;
}

/* Tells whether a word of the stack surely is the return address of the function that execution is
 * in: behind a call in a file's code, to a place little before the pc, or to another file (by its
 * PLT). */
static bool is_own_return_address(const struct walk *walk, const struct vma *here, uint64_t value)
{
    const struct vma *vma = value != 0 ? find_vma(walk, arch_call_pc(value)) : NULL;
    int32_t distance;
    uint64_t called;

    if (!vma || !vma->module || !vma->has_bias ||
        !cfi_rule_is_behind_call(vma->module, vma_elf_addr(vma, value), &distance))
        return false;
    called = value + (uint64_t)(int64_t)distance;
    return distance == 0 || vma->module != here->module ||
           walk->regs[ARCH_REG_IP] - called < MAX_LEAF_BYTES;
}

/* Steps out of code without CFI whose return address lies `word` words above rsp: hand-written leaf
 * functions, _init and _fini, PLT stubs of old linkers. Only where execution stands: callers have
 * frames. */
static enum step step_leaf(struct walk *walk, const struct vma *here, uint64_t word)
{
    uint64_t return_address;

    if (walk->is_call || here->kind == MAPPING_ANON ||
        !read_word(walk, walk->regs[ARCH_REG_SP] + 8 * word, &return_address) ||
        !is_own_return_address(walk, here, return_address))
        return STEP_STOP;
    walk->regs[ARCH_REG_IP] = return_address;
    walk->regs[ARCH_REG_SP] += 8 * (word + 1);
    walk->known &= ARCH_CALLEE_SAVED | (1U << ARCH_REG_IP) | (1U << ARCH_REG_SP);
    walk->is_call = true;
    return STEP_ON;
}

/* Steps to the code at the entry point when nothing but data lies between: musl's start code has
 * neither CFI nor frame pointers. Any other return address on the way is a frame not to be skipped.
 */
static enum step step_to_start_code(struct walk *walk)
{
    uint64_t stack_addr = walk->regs[ARCH_REG_SP], limit = stack_addr + MAX_START_BYTES, value;
    int32_t distance;

    for (; walk->is_call && stack_addr < limit && read_word(walk, stack_addr, &value);
         stack_addr += 8) {
        const struct vma *vma = value != 0 ? find_vma(walk, arch_call_pc(value)) : NULL;

        if (!vma || !vma->module || !vma->has_bias ||
            !cfi_rule_is_behind_call(vma->module, vma_elf_addr(vma, value), &distance))
            continue;
        if (!cfi_rule_is_start_code(vma->module, vma_elf_addr(vma, value)))
            return STEP_STOP;
        walk->regs[ARCH_REG_IP] = value;
        walk->regs[ARCH_REG_SP] = stack_addr + 8;
        walk->known = (1U << ARCH_REG_IP) | (1U << ARCH_REG_SP);
        return STEP_ON;
    }
    return STEP_STOP;
}

/* Steps without CFI. Before a function has a frame of its own, rbp is that of its caller: so first
 * the return address just pushed, then the frame pointer, then the return address below one pushed
 * word. */
static enum step step_without_cfi(struct walk *walk, const struct vma *vma, bool is_go,
                                  enum frame_reason reason)
{
    bool is_anonymous = vma->kind == MAPPING_ANON;
    enum step step = step_leaf(walk, vma, 0);

    if (step == STEP_STOP)
        step = step_frame_pointer(walk, is_go);
    if (step != STEP_STOP || walk->reason != REASON_NONE)
        return step;
    /* System V ABI AMD64 3.4.1: rbp is 0 in the deepest frame. A JIT may use rbp for anything. */
    if (walk->is_call && !is_anonymous && is_known(walk, ARCH_REG_BP) &&
        walk->regs[ARCH_REG_BP] == 0)
        return STEP_ROOT;
    if (step_leaf(walk, vma, 1) == STEP_ON ||
        (!is_anonymous && step_to_start_code(walk) == STEP_ON))
        return STEP_ON;
    return stop(walk, is_anonymous ? REASON_JIT : reason);
}

static enum step step_by_rule(struct walk *walk, const struct unwind_rule *rule,
                              const struct vma *vma)
{
    switch (rule->kind) {
    case RULE_SIMPLE:
        if (UNLIKELY(walk->is_thorough))
            return step_row(walk, &walk->row);
        return step_simple(walk, rule);
    case RULE_GO:
        return step_go(walk, rule);
    case RULE_ROW:
        return step_row(walk,
                        walk->is_thorough ? &walk->row : &walk->unwinder->rows[rule->row_index]);
    case RULE_ROOT:
        return STEP_ROOT;
    case RULE_SIGRETURN:
        return step_sigreturn(walk);
    case RULE_NO_CFI:
        return step_without_cfi(walk, vma, false, REASON_NO_UNWIND_INFO);
    case RULE_GO_NO_CFI:
        return step_without_cfi(walk, vma, true, REASON_NO_UNWIND_INFO);
    default: /* RULE_BROKEN; RULE_EMPTY: the work budget is used up */
        return step_without_cfi(walk, vma, false, REASON_BAD_CFA);
    }
}

/* Adds the frame where the walk stands and steps to its caller. */
static enum step step_frame(struct walk *walk)
{
    uint64_t ip = walk->regs[ARCH_REG_IP];
    uint64_t pc = walk->is_call ? arch_call_pc(ip) : ip;
    const struct vma *vma;
    struct unwind_rule rule;
    enum step step;

    if (ip == 0 && walk->is_call) /* live bytes may have changed since: a zero there is no entry */
        return walk->reader.has_read_live ? stop(walk, REASON_TRUNCATED) : STEP_ROOT;
    rule = find_rule(walk, pc, &vma);
    if (!vma) /* behind __start_context lies its data */
        return walk->is_behind_start ? STEP_ROOT : stop(walk, REASON_NO_MAPPING);
    walk->is_behind_start = rule.is_signal && rule.kind == RULE_SIMPLE;
    /* A trampoline did not call: the handler returns to its first byte. */
    callchain_push(walk->chain, vma_profile_pc(vma, rule.is_signal ? ip : pc), vma->mapping,
                   REASON_NONE);
    step = step_by_rule(walk, &rule, vma);
    if (UNLIKELY(walk->reader.has_read_live && walk->sure_frames == 0))
        walk->sure_frames = walk->chain->num_frames;
    return step;
}

/* Notes where the walk stands, for the memory. Interrupted code is no one's caller. */
static void note_step(struct walk *walk)
{
    walk->unwinder->path[walk->num_steps++] =
        (struct frame_state){walk->regs[ARCH_REG_IP], walk->is_call ? walk->regs[ARCH_REG_SP] : 0,
                             walk->regs[ARCH_REG_BP], is_known(walk, ARCH_REG_BP)};
}

/* Goes on to the caller that the frame just left had in an earlier sample. Returns: false: none is
 * remembered, or it is doubtful. */
static bool recall_caller(struct walk *walk)
{
    const struct frame_state *frame = &walk->unwinder->path[walk->num_steps - 1];
    struct frame_state caller;

    if ((walk->sure_frames == 0 && !frame_memory_agrees(&walk->unwinder->memory, walk->process->pid,
                                                        walk->unwinder->path, walk->num_steps)) ||
        !frame_memory_get(&walk->unwinder->memory, walk->process->pid, frame, &caller))
        return false;
    if (walk->sure_frames == 0)
        walk->sure_frames = walk->chain->num_frames;
    walk->regs[ARCH_REG_IP] = caller.ip;
    walk->regs[ARCH_REG_SP] = caller.sp;
    walk->regs[ARCH_REG_BP] = caller.bp;
    walk->known = (1U << ARCH_REG_IP) | (1U << ARCH_REG_SP);
    walk->known |= caller.is_bp_known ? 1U << ARCH_REG_BP : 0;
    walk->is_call = true;
    walk->reason = REASON_NONE;
    return true;
}

/* Walks to the root, or to where it can't go on. Returns: why it stopped; REASON_NONE at the root.
 */
static enum frame_reason walk_frames(struct walk *walk, uint32_t max_frames)
{
    for (uint32_t i = 0; i < max_frames; i++) {
        enum step step;

        if (UNLIKELY(walk->unwinder->path))
            note_step(walk);
        step = step_frame(walk);
        if (step == STEP_ROOT)
            return REASON_NONE;
        if (step == STEP_STOP &&
            !(walk->is_recalling && walk->reason == REASON_TRUNCATED && recall_caller(walk)))
            return walk->reason;
    }
    return REASON_TOO_DEEP;
}

static void begin_walk(struct walk *walk, struct unwinder *unwinder, struct process *process,
                       const struct sample *sample, struct callchain *chain, bool is_thorough)
{
    walk->unwinder = unwinder;
    walk->process = process;
    walk->chain = chain;
    walk->reader = (struct stack_reader){
        .copy = sample->stack,
        .copy_start = sample->regs[SAMPLE_REG_SP],
        .copy_bytes = sample->stack ? sample->stack_bytes : 0,
        .may_read_live = unwinder->options.live_tail && !process->has_ended,
        .pid = process->pid,
        .window = unwinder->window,
    };
    memcpy(walk->regs, sample->regs, sizeof(walk->regs));
    walk->known = ARCH_ALL_REGS;
    walk->is_call = false;
    walk->is_behind_start = false;
    walk->has_reread = false;
    walk->is_thorough = is_thorough;
    walk->needs_thorough = false;
    walk->is_recalling = false;
    walk->num_steps = 0;
    walk->sure_frames = 0;
    walk->work = WORK_PER_STACK;
    walk->reason = REASON_NONE;
}

static bool is_kept(enum frame_reason reason)
{
    return reason == REASON_NONE || reason == REASON_TOO_DEEP;
}

/* Drops what was found with live bytes unless it led to a root (or to more frames than one can make
 * up by chance). */
static enum frame_reason judge_live_tail(struct walk *walk, enum frame_reason reason)
{
    struct unwind_stats *stats = &walk->unwinder->stats;

    if (!walk->reader.has_read_live)
        return reason;
    stats->num_live_tails_read++;
    if (is_kept(reason)) {
        stats->num_live_tails_kept++;
        return reason;
    }
    walk->chain->num_frames = walk->sure_frames;
    return REASON_TRUNCATED;
}

/* Begins to remember frames, at the first stack that is cut. Returns: false when memory is short.
 */
static bool begin_memory(struct unwinder *unwinder)
{
    CLEANUP(error_destroy) struct error *err = NULL;

    if (unwinder->path)
        return true;
    err = frame_memory_init(&unwinder->memory);
    if (!err)
        unwinder->path = malloc(CALLCHAIN_MAX_USER_FRAMES * sizeof(*unwinder->path));
    return unwinder->path;
}

/* Walks a stack that is deeper than its copy by what earlier samples saw of the part above; keeps
 * it under the same condition as a live tail. */
static enum frame_reason walk_by_memory(struct walk *walk, const struct sample *sample,
                                        uint32_t num_before)
{
    struct unwinder *unwinder = walk->unwinder;
    enum frame_reason reason;

    walk->chain->num_frames = num_before;
    begin_walk(walk, unwinder, walk->process, sample, walk->chain, false);
    walk->reader.may_read_live = false;
    walk->is_recalling = true;
    reason = walk_frames(walk, CALLCHAIN_MAX_USER_FRAMES);
    if (walk->sure_frames == 0)
        return reason;
    if (is_kept(reason)) {
        unwinder->stats.num_tails_recalled++;
        return reason;
    }
    walk->chain->num_frames = walk->sure_frames;
    return REASON_TRUNCATED;
}

/* Remembers who called whom in a finished walk: all of it when it was read to the root, else the
 * part that came from the copy. */
static void remember_walk(const struct walk *walk, enum frame_reason reason, uint32_t num_before)
{
    struct unwinder *unwinder = walk->unwinder;
    uint32_t num_good = walk->num_steps;

    if (walk->sure_frames && (walk->is_recalling || !is_kept(reason)))
        num_good = walk->sure_frames - num_before;
    for (uint32_t i = 1; i < num_good; i++)
        frame_memory_put(&unwinder->memory, walk->process->pid, &unwinder->path[i - 1],
                         &unwinder->path[i]);
}

static enum frame_reason unwind_user(struct unwinder *unwinder, struct process *process,
                                     const struct sample *sample, struct callchain *chain)
{
    uint32_t num_before = chain->num_frames;
    enum frame_reason reason;
    struct walk walk;

    begin_walk(&walk, unwinder, process, sample, chain, false);
    reason = walk_frames(&walk, CALLCHAIN_MAX_USER_FRAMES);
    if (UNLIKELY(reason != REASON_NONE && walk.needs_thorough)) {
        chain->num_frames = num_before;
        begin_walk(&walk, unwinder, process, sample, chain, true);
        reason = walk_frames(&walk, CALLCHAIN_MAX_USER_FRAMES);
    }
    reason = judge_live_tail(&walk, reason);
    if (UNLIKELY(reason == REASON_TRUNCATED && unwinder->options.remember_frames &&
                 begin_memory(unwinder)))
        reason = walk_by_memory(&walk, sample, num_before);
    if (UNLIKELY(unwinder->path))
        remember_walk(&walk, reason, num_before);
    return reason;
}

static void push_kernel_frames(const struct sample *sample, uint32_t kernel_mapping,
                               struct callchain *chain)
{
    if (sample->num_kernel_pcs == 0)
        return;
    if (kernel_mapping == 0) {
        callchain_push(chain, 0, 0, REASON_KERNEL);
        return;
    }
    for (size_t i = 0; i < sample->num_kernel_pcs && i < CALLCHAIN_MAX_KERNEL_FRAMES; i++) {
        uint64_t pc = sample->kernel_pcs[i];

        callchain_push(chain, i == 0 ? pc : arch_call_pc(pc), kernel_mapping, REASON_NONE);
    }
}

/* The one frame that is known of a 32-bit task. */
static void push_leaf(struct process *process, const struct sample *sample, struct callchain *chain)
{
    uint64_t pc = sample->has_user_regs ? sample->regs[SAMPLE_REG_IP] : sample->pc;
    const struct vma *vma = process->maps ? maps_find(process->maps, pc) : NULL;

    if (vma)
        callchain_push(chain, vma_profile_pc(vma, pc), vma->mapping, REASON_NONE);
}

/* Tells whether a sample hit inside execve after the old program was gone: the user registers are
 * still the old program's, the mappings the new one's. There is no user stack then. */
static bool is_inside_execve(const struct process *process, const struct sample *sample)
{
    return sample->in_kernel && process->exec_time_ns &&
           sample->time_ns - process->exec_time_ns < MAX_EXECVE_NS &&
           !(process->maps && maps_find(process->maps, sample->regs[SAMPLE_REG_IP]));
}

static void cfi_unwind(struct unwinder *unwinder, struct process *process,
                       const struct sample *sample, uint32_t kernel_mapping,
                       struct callchain *chain_ret)
{
    enum frame_reason reason = REASON_NONE;

    chain_ret->num_frames = 0;
    push_kernel_frames(sample, kernel_mapping, chain_ret);
    if (sample->is_32bit) {
        push_leaf(process, sample, chain_ret);
        reason = REASON_32BIT;
    } else if (sample->has_user_regs && chain_ret->num_frames &&
               is_inside_execve(process, sample)) {
        reason = REASON_NONE;
    } else if (sample->has_user_regs) {
        reason = unwind_user(unwinder, process, sample, chain_ret);
    } else if (!sample->in_kernel) {
        reason = REASON_NO_REGISTERS;
    } else if (chain_ret->num_frames == 0) {
        /* A kernel thread whose kernel stack is not to be seen: complete, but nameless. */
        callchain_push(chain_ret, 0, 0, REASON_KERNEL);
    }
    if (reason != REASON_NONE)
        callchain_push(chain_ret, 0, 0, reason);
    chain_ret->stop = reason;
    if (chain_ret->num_frames == 0) /* stood at an entry point outside every mapping: can't be */
        callchain_push(chain_ret, 0, 0, REASON_NO_MAPPING);
    unwinder->stats.num_stacks++;
    unwinder->stats.num_frames += chain_ret->num_frames;
}

static void cfi_stats(const struct unwinder *unwinder, struct unwind_stats *stats_ret)
{
    *stats_ret = unwinder->stats;
}

static void cfi_destroy(struct unwinder *unwinder)
{
    if (!unwinder)
        return;
    rule_cache_deinit(&unwinder->cache);
    free(unwinder->rows);
    free(unwinder->window);
    frame_memory_deinit(&unwinder->memory);
    free(unwinder->path);
    free(unwinder);
}

DEFINE_CLEANUP(cfi_destroy, struct unwinder *)

static struct error *cfi_create(const struct unwind_options *options, struct target *target,
                                struct unwinder **unwinder_ret)
{
    CLEANUP(cfi_destroy) struct unwinder *unwinder = calloc(1, sizeof(*unwinder));

    if (!unwinder)
        return &error_no_memory;
    unwinder->options = *options;
    unwinder->target = target;
    RETURN_IF_ERROR(rule_cache_init(&unwinder->cache));
    unwinder->rows = malloc(MAX_ROWS * sizeof(*unwinder->rows));
    unwinder->window = malloc(LIVE_WINDOW_BYTES);
    if (!unwinder->rows || !unwinder->window)
        return &error_no_memory;
    *unwinder_ret = take_ptr(unwinder);
    return NULL;
}

const struct unwind_ops unwind_cfi = {
    .name = "cfi",
    .create = cfi_create,
    .unwind = cfi_unwind,
    .stats = cfi_stats,
    .destroy = cfi_destroy,
};
