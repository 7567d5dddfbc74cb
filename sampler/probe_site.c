#include "sampler/probe_site.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "sampler/probe_calls.h"
#include "sampler/probe_frames.h"
#include "sampler/x86_insn.h"

/* How far from the entry a site may be; jemalloc's free has its first jump at 48. */
#define MAX_SLIDE_BYTES 256
/* A function up to this size that calls another of its kind does nothing else that matters; real
 * ones: musl's calloc 230 bytes, libstdc++'s operator new 80. One with a fast path of its own that
 * calls another only at times is larger: glibc's realloc 1247. */
#define MAX_WRAPPER_BYTES 256
/* Of a module whose functions are larger than any real ones, only the entries are read. */
#define MAX_TOTAL_CODE_BYTES ((uint64_t)1 << 20)

/* Registers of the arguments in order, and where one is moved to (System V ABI AMD64 3.2.3). */
static const uint8_t argument_registers[] = {X86_RDI, X86_RSI, X86_RDX, X86_RCX, X86_RAX};

#define NUM_ARGUMENTS 4 /* that are in registers at the entry: the first of those above */
#define NUM_REGISTERS 16
#define NOTHING (-1)

/* What the registers hold: arguments of the call, or something else. */
struct registers {
    int8_t argument[NUM_REGISTERS]; /* by register: number of the argument, or NOTHING */
    bool has_moved_stack;
};

static struct registers registers_at_entry(void)
{
    struct registers registers;

    memset(registers.argument, NOTHING, sizeof(registers.argument));
    registers.has_moved_stack = false;
    for (int8_t i = 0; i < NUM_ARGUMENTS; i++)
        registers.argument[argument_registers[i]] = i;
    return registers;
}

static void registers_step(struct registers *registers, const struct x86_insn *insn)
{
    int8_t moved = insn->is_move ? registers->argument[insn->from] : NOTHING;

    for (size_t i = 0; i < NUM_REGISTERS; i++)
        if (insn->writes >> i & 1)
            registers->argument[i] = NOTHING;
    if (insn->is_move)
        registers->argument[insn->to] = moved;
    registers->has_moved_stack |= insn->writes >> X86_RSP & 1;
}

/* Tells whether argument `number` is in the register where `role` reads its argument `where`. */
static bool argument_is_in(const struct registers *registers, int8_t number, int8_t where)
{
    return number == ALLOCATOR_NO_ARGUMENT ||
           registers->argument[argument_registers[where]] == number;
}

/* Tells whether `reader`, a role of the same arguments in other registers maybe, finds all that
 * `role` has. */
static bool role_reads(const struct registers *registers, enum allocator_role role,
                       enum allocator_role reader)
{
    const struct allocator_arguments *has = &allocator_arguments[role];
    const struct allocator_arguments *reads = &allocator_arguments[reader];

    return argument_is_in(registers, has->size, reads->size) &&
           argument_is_in(registers, has->count, reads->count) &&
           argument_is_in(registers, has->old, reads->old) &&
           argument_is_in(registers, has->out, reads->out);
}

/* Finds the role by which the arguments of `role` can be read now. Returns: false when there is
 * none, or the stack pointer has moved (of a free nobody asks where it returns to). */
static bool role_find(const struct registers *registers, enum allocator_role role,
                      enum allocator_role *role_ret)
{
    if (registers->has_moved_stack && role != ALLOCATOR_FREE)
        return false;
    *role_ret = role;
    if (role_reads(registers, role, role))
        return true;
    if (role == ALLOCATOR_MALLOC)
        *role_ret = ALLOCATOR_MEMALIGN;
    else if (role == ALLOCATOR_CALLOC || role == ALLOCATOR_HEAP_CALLOC)
        *role_ret = ALLOCATOR_CALLOC_MOVED;
    else
        return false;
    return role_reads(registers, role, *role_ret);
}

/* Tells whether the kernel emulates an instruction. Of the pushes it does those without a prefix
 * and with REX.B alone; branches not behind 0x66.
 * Source: arch/x86/kernel/uprobes.c push_setup_xol_ops(), branch_setup_xol_ops(). */
static bool is_emulated(const uint8_t *code, const struct x86_insn *insn)
{
    if (insn->has_segment || insn->has_lock)
        return false;
    switch (insn->kind) {
    case X86_NOP:
        return true;
    case X86_PUSH:
        return insn->num_bytes == 1 || (insn->num_bytes == 2 && code[0] == 0x41);
    case X86_JMP:
    case X86_JCC:
    case X86_CALL:
        return !insn->has_66;
    default:
        return false;
    }
}

/* Tells whether the kernel accepts a uprobe on an instruction at all.
 * Source: arch/x86/kernel/uprobes.c is_prefix_bad(), good_insns_64. */
static bool is_accepted(const uint8_t *code, const struct x86_insn *insn)
{
    return !insn->has_segment && !insn->has_lock && !insn->is_privileged && code[0] != 0xcc;
}

/* Finds the first place behind the entry that a branch of the function leads to: from there on
 * code may run more than once in a call. */
static size_t loop_find(const uint8_t *code, size_t num_bytes)
{
    size_t first = num_bytes;
    struct x86_insn insn;

    for (size_t at = 0; at < num_bytes; at += insn.num_bytes) {
        int64_t target;

        if (!x86_insn_decode(code + at, num_bytes - at, &insn))
            insn = (struct x86_insn){.num_bytes = 1};
        target = (int64_t)at + insn.target;
        if ((insn.kind == X86_JMP || insn.kind == X86_JCC || insn.kind == X86_LOOP) && target > 0 &&
            target < (int64_t)first)
            first = (size_t)target;
    }
    return first;
}

bool probe_site_slide(const uint8_t *code, size_t num_bytes, enum allocator_role role,
                      struct probe_slide *slide_ret)
{
    struct registers registers = registers_at_entry();
    size_t limit = loop_find(code, num_bytes);
    enum allocator_role reader;
    struct x86_insn insn;

    limit = limit < MAX_SLIDE_BYTES ? limit : MAX_SLIDE_BYTES;
    for (size_t at = 0; at < limit; at += insn.num_bytes) {
        if (!x86_insn_decode(code + at, num_bytes - at, &insn))
            break;
        if (is_emulated(code + at, &insn) && role_find(&registers, role, &reader)) {
            *slide_ret = (struct probe_slide){.offset = at, .role = reader};
            return true;
        }
        if (insn.writes_all || (insn.kind != X86_OTHER && insn.kind != X86_NOP))
            break;
        registers_step(&registers, &insn);
    }
    if (!x86_insn_decode(code, num_bytes, &insn) || !is_accepted(code, &insn))
        return false;
    *slide_ret = (struct probe_slide){.offset = 0, .is_stepped = true, .role = role};
    return true;
}

/* What is worked out for each function of the set. */
struct plan {
    struct probe_code code;
    struct probe_slide slide;
    bool is_refused;
    bool has_frames;   /* its caller can be found from a call that it makes */
    bool passes_on;    /* needs no site */
    bool reaches_site; /* has one, or hands on to what has */
};

struct plans {
    struct plan *items;
    size_t num_items;
};

static void cleanup_plans_deinit(struct plans *plans)
{
    for (size_t i = 0; i < plans->num_items; i++)
        free(plans->items[i].code.bytes);
    free(plans->items);
}

enum kind {
    KIND_FREE,
    KIND_ALLOC,
    KIND_REALLOC,
};

static enum kind role_kind(enum allocator_role role)
{
    if (role == ALLOCATOR_FREE)
        return KIND_FREE;
    return allocator_arguments[role].old == ALLOCATOR_NO_ARGUMENT ? KIND_ALLOC : KIND_REALLOC;
}

/* Tells whether what is called can do all that its caller is asked for: malloc by way of realloc,
 * but not realloc by malloc alone. */
static bool can_stand_for(enum allocator_role from, enum allocator_role to)
{
    if (role_kind(from) == KIND_ALLOC)
        return role_kind(to) != KIND_FREE;
    return role_kind(from) == role_kind(to);
}

/* Tells whether a call is the way by which its caller hands each call on: to another module's
 * function, whatever the caller's size (who frees by another allocator has no memory of its own);
 * within the module when it is small. */
static bool call_passes_on(const struct allocator_set *set, const struct plan *plans,
                           const struct probe_call *call)
{
    const struct allocator_function *from = &set->functions[call->from];

    if (call->is_indirect || !can_stand_for(from->role, call->role))
        return false;
    if (call->to == PROBE_CALLS_ELSEWHERE)
        return true;
    if (!call->is_jump && !plans[call->from].has_frames)
        return false;
    return from->num_bytes <= MAX_WRAPPER_BYTES && call->to != call->from &&
           !plans[call->to].is_refused;
}

/* Marks the functions that need no site. Such that hand on in a circle, to none that has a site,
 * keep theirs. */
static void passes_on_mark(const struct allocator_set *set, const struct probe_calls *calls,
                           struct plan *plans)
{
    bool has_changed = true;

    for (size_t i = 0; i < calls->num_calls; i++)
        if (call_passes_on(set, plans, &calls->calls[i]))
            plans[calls->calls[i].from].passes_on = true;
    for (size_t i = 0; i < set->num_functions; i++)
        plans[i].reaches_site = !plans[i].passes_on;
    while (has_changed) {
        has_changed = false;
        for (size_t i = 0; i < calls->num_calls; i++) {
            const struct probe_call *call = &calls->calls[i];

            if (plans[call->from].reaches_site || !call_passes_on(set, plans, call) ||
                (call->to != PROBE_CALLS_ELSEWHERE && !plans[call->to].reaches_site))
                continue;
            plans[call->from].reaches_site = has_changed = true;
        }
    }
    for (size_t i = 0; i < set->num_functions; i++)
        plans[i].passes_on &= plans[i].reaches_site;
}

static bool has_site(const struct plan *plan)
{
    return !plan->passes_on && !plan->is_refused;
}

/* Adds the code of a calling function to those whose calls of `site` are nested. */
static void caller_add(struct heap_site *site, uint64_t site_addr,
                       const struct allocator_function *caller, struct heap_sites *sites)
{
    int64_t start = (int64_t)(caller->elf_addr - site_addr);

    if (site->num_callers == HEAP_MAX_CALLERS) {
        sites->num_counted_twice++;
        return;
    }
    site->callers[site->num_callers].start = start;
    site->callers[site->num_callers++].limit = start + (int64_t)caller->num_bytes;
}

/* Fills in what is known of calls into the function at `index`: nested ones, and those that can't
 * be told. A free within a realloc does no harm: what it takes out was taken out already. */
static void callers_fill(const struct allocator_set *set, const struct probe_calls *calls,
                         const struct plan *plans, size_t index, struct heap_site *site,
                         struct heap_sites *sites)
{
    uint64_t site_addr = set->functions[index].elf_addr + plans[index].slide.offset;

    for (size_t i = 0; i < calls->num_calls; i++) {
        const struct probe_call *call = &calls->calls[i];
        const struct allocator_function *from = &set->functions[call->from];

        if (call->to != index || (call->is_indirect && call->is_jump) ||
            !has_site(&plans[call->from]) || role_kind(from->role) == KIND_FREE ||
            role_kind(site->role) == KIND_FREE)
            continue;
        if (!call->is_jump)
            caller_add(site, site_addr, from, sites);
        else if (role_kind(from->role) != KIND_REALLOC || role_kind(site->role) != KIND_ALLOC)
            sites->num_counted_twice++;
    }
}

/* A realloc that jumps to a malloc does so for a null pointer: what else could it do with the old
 * memory? */
static bool null_passes_on(const struct probe_calls *calls, const struct plan *plans, size_t index,
                           enum allocator_role role)
{
    if (role_kind(role) != KIND_REALLOC)
        return false;
    for (size_t i = 0; i < calls->num_calls; i++) {
        const struct probe_call *call = &calls->calls[i];

        if (call->from == index && call->is_jump && role_kind(call->role) == KIND_ALLOC &&
            (call->to == PROBE_CALLS_ELSEWHERE || !plans[call->to].is_refused))
            return true;
    }
    return false;
}

/* glibc's memalign and aligned_alloc jump to an internal function, and that to malloc when malloc's
 * own alignment is enough. */
static bool small_passes_on(const struct probe_calls *calls, const struct plan *plans, size_t index)
{
    for (size_t i = 0; i < calls->num_calls; i++)
        if (calls->calls[i].from == index && calls->calls[i].is_indirect &&
            calls->calls[i].is_jump && role_kind(calls->calls[i].role) == KIND_ALLOC &&
            has_site(&plans[calls->calls[i].to]))
            return true;
    return false;
}

static struct error *sites_fill(const struct allocator_set *set, const struct probe_calls *calls,
                                const struct plan *plans, struct heap_sites *sites)
{
    for (size_t i = 0; i < set->num_functions; i++) {
        const struct allocator_function *function = &set->functions[i];
        struct heap_site *site;

        sites->num_passed_on += plans[i].passes_on;
        sites->num_refused += plans[i].is_refused && !plans[i].passes_on;
        if (!has_site(&plans[i]))
            continue;
        RETURN_IF_ERROR(array_reserve(&sites->sites, &sites->capacity, sites->num_sites + 1,
                                      sizeof(*sites->sites)));
        site = &sites->sites[sites->num_sites++];
        *site = (struct heap_site){
            .file_off = function->file_off + plans[i].slide.offset,
            .entry_off = function->file_off,
            .role = plans[i].slide.role,
            .is_stepped = plans[i].slide.is_stepped,
            .null_passes_on = null_passes_on(calls, plans, i, function->role),
            .small_passes_on = small_passes_on(calls, plans, i),
        };
        memcpy(site->name, function->name, sizeof(site->name));
        callers_fill(set, calls, plans, i, site, sites);
    }
    return NULL;
}

static struct error *plans_make(const struct module *module, const struct allocator_set *set,
                                struct plans *plans, struct probe_code *codes)
{
    uint64_t total_bytes = 0;

    for (size_t i = 0; i < set->num_functions; i++) {
        struct allocator_function function = set->functions[i];
        struct plan *plan = &plans->items[i];

        if (total_bytes > MAX_TOTAL_CODE_BYTES && function.num_bytes > MAX_SLIDE_BYTES)
            function.num_bytes = MAX_SLIDE_BYTES;
        RETURN_IF_ERROR(probe_code_read(module, &function, &plan->code));
        codes[i] = plan->code;
        total_bytes += plan->code.num_bytes;
        plan->has_frames = probe_has_frames(module, function.elf_addr);
        plan->is_refused =
            !probe_site_slide(plan->code.bytes, plan->code.num_bytes, function.role, &plan->slide);
    }
    return NULL;
}

struct error *heap_sites_make(const struct module *module, const struct allocator_set *chosen,
                              struct heap_sites *sites_ret)
{
    CLEANUP(plans_deinit) struct plans plans = {0};
    CLEANUP(free) struct probe_code *codes = NULL;
    struct heap_sites sites = {0};
    struct probe_calls calls = {0};
    struct error *err;

    if (chosen->num_functions == 0) {
        *sites_ret = sites;
        return NULL;
    }
    codes = calloc(chosen->num_functions, sizeof(*codes));
    plans.items = calloc(chosen->num_functions, sizeof(*plans.items));
    if (!codes || !plans.items)
        return &error_no_memory;
    plans.num_items = chosen->num_functions;
    RETURN_IF_ERROR(plans_make(module, chosen, &plans, codes));
    RETURN_IF_ERROR(probe_calls_find(module, chosen, codes, &calls));
    passes_on_mark(chosen, &calls, plans.items);
    err = sites_fill(chosen, &calls, plans.items, &sites);
    free(calls.calls);
    if (err) {
        heap_sites_deinit(&sites);
        return err;
    }
    *sites_ret = sites;
    return NULL;
}

void heap_sites_deinit(struct heap_sites *sites)
{
    free(sites->sites);
    *sites = (struct heap_sites){0};
}
