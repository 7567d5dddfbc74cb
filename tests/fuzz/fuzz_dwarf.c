/* A hostile ELF file with debug info, through every source of names for modules. */
#include <fcntl.h>
#include <gelf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "symbolize/debug_files.h"
#include "symbolize/symbolize.h"

#define NUM_ADDRESSES 64
#define NUM_PLACES 256

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes);

/* Asks for addresses all over the executable segments. */
static void ask(const struct symbolize_ops *ops, void *state, Elf *elf,
                struct symbol_frames *frames)
{
    size_t num_phdrs = 0;

    if (elf_getphdrnum(elf, &num_phdrs) < 0 || num_phdrs > 64)
        return;
    for (size_t i = 0; i < num_phdrs; i++) {
        GElf_Phdr phdr;

        if (!gelf_getphdr(elf, (int)i, &phdr) || phdr.p_type != PT_LOAD || !(phdr.p_flags & PF_X))
            continue;
        for (uint64_t at = 0; at < NUM_ADDRESSES; at++) {
            frames->hint = at % 2 ? "main" : NULL;
            if (!ops->lookup(state, phdr.p_vaddr + phdr.p_memsz / NUM_ADDRESSES * at, frames))
                continue;
            for (size_t j = 0; j < frames->num_symbols; j++) {
                if (strlen(frames->symbols[j].name) + strlen(frames->symbols[j].filename) +
                        strlen(frames->symbols[j].system_name) >
                    ((size_t)1 << 30))
                    abort();
            }
        }
    }
}

static int compare_places(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;

    return *a < *b ? -1 : *a > *b;
}

/* Announces some of the addresses that ask() asks for, as the chain does for all. places: room for
 * NUM_PLACES. */
static void announce(struct symbolize_input *input, uint64_t *places)
{
    Elf *elf = input->files->main;
    size_t num_phdrs = 0;
    size_t num = 0;
    GElf_Phdr phdr;

    if (elf_getphdrnum(elf, &num_phdrs) < 0)
        return;
    for (size_t i = 0; i < num_phdrs && i < 64; i++) {
        if (!gelf_getphdr(elf, (int)i, &phdr) || phdr.p_type != PT_LOAD || !(phdr.p_flags & PF_X))
            continue;
        for (uint64_t at = 0; at < NUM_ADDRESSES && num < NUM_PLACES; at += 2)
            places[num++] = phdr.p_vaddr + phdr.p_memsz / NUM_ADDRESSES * at;
    }
    qsort(places, num, sizeof(*places), compare_places);
    for (size_t i = 0; i < num; i++) {
        if (i == 0 || places[i] > places[input->num_places - 1])
            places[input->num_places++] = places[i];
    }
    input->places = places;
}

static void ask_all(const struct symbolize_input *input, struct symbol_frames *frames)
{
    static const struct symbolize_ops *const sources[] = {&symbolize_dwarf, &symbolize_gopclntab,
                                                          &symbolize_elf_symtab, &symbolize_plt};

    for (size_t i = 0; i < ARRAY_LENGTH(sources); i++) {
        void *state = NULL;
        struct error *err = sources[i]->open(input, &state);

        error_destroy(err);
        if (err || !state)
            continue;
        ask(sources[i], state, input->files->main, frames);
        sources[i]->close(state);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t num_bytes)
{
    static char path[] = "/fuzz";
    static char root[] = "/nonexistent";
    struct module module = {.path = path, .root = root, .fd = memfd_create("fuzz", MFD_CLOEXEC)};
    struct symbol_frames *frames = calloc(1, sizeof(*frames));
    struct debug_files *files = NULL;
    uint64_t places[NUM_PLACES];
    struct arena arena;
    struct symbolize_input input = {
        .module = &module, .arena = &arena, .deadline_ns = clock_monotonic_ns() + 1000000000};

    arena_init(&arena);
    if (frames && module.fd >= 0 && write(module.fd, bytes, num_bytes) == (ssize_t)num_bytes) {
        struct error *err = debug_files_open(&module, NULL, &files);

        error_destroy(err);
        input.files = files;
        if (!err)
            announce(&input, places);
        if (!err)
            ask_all(&input, frames);
    }
    debug_files_close(files);
    arena_deinit(&arena);
    free(frames);
    if (module.fd >= 0)
        close(module.fd);
    return 0;
}
