#include "target/needed.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/array.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define SHELL "/bin/sh"
#define MAX_SCRIPTS \
    4 /* a script's interpreter may be a script: binfmt_script gives up after that */
#define HEAD_BYTES 256 /* of a script: BINPRM_BUF_SIZE */
#define MAX_PROGRAM_HEADERS 4096
#define MAX_PATH_BYTES 4096
#define MAX_OUTPUT_BYTES ((size_t)1 << 20)

/* What a file is to execve. */
struct program {
    int fd;
    bool is_elf;       /* a 64-bit x86-64 one */
    char *interpreter; /* of its PT_INTERP, or of a script; NULL: none */
    bool may_be_asked; /* running its linker is as harmless as running it */
};

static void program_deinit(struct program *program)
{
    if (program->fd >= 0)
        close(program->fd);
    free(program->interpreter);
}

static void cleanup_program_deinit(struct program *program)
{
    program_deinit(program);
}

static struct error *needed_add(struct needed_files *needed, const char *path, size_t num_bytes)
{
    char *copy;

    for (size_t i = 0; i < needed->num_paths; i++)
        if (strncmp(needed->paths[i], path, num_bytes) == 0 && needed->paths[i][num_bytes] == '\0')
            return NULL;
    if (needed->num_paths >= NEEDED_MAX_FILES)
        return NULL;
    RETURN_IF_ERROR(array_reserve(&needed->paths, &needed->capacity, needed->num_paths + 1,
                                  sizeof(*needed->paths)));
    copy = strndup(path, num_bytes);
    if (!copy)
        return &error_no_memory;
    needed->paths[needed->num_paths++] = copy;
    return NULL;
}

/* The line of a script behind "#!": its first word. */
static struct error *script_interpreter(const char *head, struct program *program)
{
    size_t num_bytes;

    head += 2;
    head += strspn(head, " \t");
    num_bytes = strcspn(head, " \t\n");
    if (num_bytes == 0)
        return NULL;
    program->interpreter = strndup(head, num_bytes);
    return program->interpreter ? NULL : &error_no_memory;
}

/* Reads the path in PT_INTERP. */
static struct error *elf_interpreter(int fd, const Elf64_Phdr *header, struct program *program)
{
    char path[MAX_PATH_BYTES];
    ssize_t num_bytes;

    if (header->p_filesz == 0 || header->p_filesz > sizeof(path))
        return NULL;
    num_bytes = pread(fd, path, header->p_filesz, (off_t)header->p_offset);
    if (num_bytes != (ssize_t)header->p_filesz || path[num_bytes - 1] != '\0')
        return NULL;
    program->interpreter = strdup(path);
    return program->interpreter ? NULL : &error_no_memory;
}

static struct error *elf_look(struct program *program, const Elf64_Ehdr *header)
{
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64 ||
        header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > MAX_PROGRAM_HEADERS)
        return NULL;
    program->is_elf = true;
    for (size_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;

        if (pread(program->fd, &segment, sizeof(segment),
                  (off_t)(header->e_phoff + i * sizeof(segment))) != sizeof(segment))
            return NULL;
        if (segment.p_type == PT_INTERP)
            return elf_interpreter(program->fd, &segment, program);
    }
    return NULL;
}

/* Tells whether the kernel would give this program more rights than we have: its linker must not be
 * told by us what to do. */
static bool is_privileged(int fd, const struct stat *status)
{
    return (status->st_mode & (S_ISUID | S_ISGID)) ||
           fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* Opens a file that execve would run and looks what it is. program_ret: fd -1: nothing to see. */
static struct error *program_open(const char *path, struct program *program_ret)
{
    CLEANUP(program_deinit) struct program program = {.fd = -1};
    union {
        char bytes[HEAD_BYTES];
        Elf64_Ehdr elf;
    } head = {{0}};
    struct stat status;
    ssize_t num_bytes;

    program.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (program.fd < 0 || fstat(program.fd, &status) != 0 || !S_ISREG(status.st_mode))
        return NULL;
    num_bytes = pread(program.fd, head.bytes, sizeof(head.bytes) - 1, 0);
    if (num_bytes < 2)
        return NULL;
    program.may_be_asked =
        !is_privileged(program.fd, &status) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
    if (memcmp(head.bytes, "#!", 2) == 0)
        RETURN_IF_ERROR(script_interpreter(head.bytes, &program));
    else if (memcmp(head.bytes, ELFMAG, SELFMAG) == 0 && num_bytes >= (ssize_t)sizeof(head.elf))
        RETURN_IF_ERROR(elf_look(&program, &head.elf));
    else if (!memchr(head.bytes, '\0', (size_t)num_bytes))
        program.interpreter = strdup(SHELL); /* as execvp does */
    *program_ret = program;
    program = (struct program){.fd = -1};
    return NULL;
}

/* Dynamic linkers that know --list and run nothing then: those of glibc and musl. Another that is
 * named by PT_INTERP might start the program. */
static bool linker_is_known(const char *path)
{
    const char *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    return strncmp(name, "ld-linux-x86-64.so.", 19) == 0 || strncmp(name, "ld-musl-", 8) == 0;
}

/* Tells whether auditors would be loaded, and run, when the linker only lists. */
static bool linker_has_auditors(void)
{
    const char *auditors = getenv("LD_AUDIT");

    return auditors && auditors[0] != '\0';
}

/* Starts the linker, its output in a pipe. fd_ret: the reading end. Returns: its pid; -1: none. */
static pid_t linker_start(const char *linker, const char *path, int *fd_ret)
{
    char *argv[] = {(char *)linker, (char *)"--list", (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = -1;
    sigset_t set;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    /* Its own process group: a ^C is not for it, and it goes by SIGKILL. */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &set);
    if (posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) ||
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1) ||
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) ||
        posix_spawn(&pid, linker, &actions, &attributes, argv, environ))
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    else
        *fd_ret = ends[0];
    return pid;
}

/* Reads until the end, or the time or the room is over. Returns: bytes read. */
static size_t output_read(int fd, char *text, size_t num_bytes)
{
    uint64_t deadline_ns = clock_monotonic_ns() + NEEDED_MAX_MS * UINT64_C(1000000);
    size_t num_done = 0;

    while (num_done < num_bytes) {
        uint64_t now_ns = clock_monotonic_ns();
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t num_read;

        if (now_ns >= deadline_ns)
            break;
        if (poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / 1000000) + 1) <= 0)
            continue;
        num_read = read(fd, text + num_done, num_bytes - num_done);
        if (num_read < 0 && errno == EINTR)
            continue;
        if (num_read <= 0)
            break;
        num_done += (size_t)num_read;
    }
    return num_done;
}

/* Takes the file of one line: "\tlibc.so.6 => /lib/libc.so.6 (0x7f...)" or "\t/lib/ld.so (0x...)";
 * not "linux-vdso.so.1 (0x...)" nor "libx.so => not found". */
static struct error *line_add(struct needed_files *needed, char *line)
{
    char *path = strstr(line, " => ");
    char *end;

    path = path ? path + 4 : line + strspn(line, " \t");
    end = strrchr(path, '(');
    if (!end || end == path || end[-1] != ' ')
        return NULL;
    end[-1] = '\0';
    return strchr(path, '/') ? needed_add(needed, path, strlen(path)) : NULL;
}

static struct error *linker_ask(const char *linker, const char *path, struct needed_files *needed)
{
    CLEANUP(free) char *text = malloc(MAX_OUTPUT_BYTES + 1);
    CLEANUP(close) int fd = -1;
    size_t num_bytes;
    pid_t pid;
    int status;

    if (!text)
        return &error_no_memory;
    pid = linker_start(linker, path, &fd);
    if (pid < 0)
        return NULL;
    num_bytes = output_read(fd, text, MAX_OUTPUT_BYTES);
    kill(-pid, SIGKILL); /* has ended, or takes too long; with all that it started */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    text[num_bytes] = '\0';
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        RETURN_IF_ERROR(line_add(needed, line));
    }
    return NULL;
}

/* Copies a path so that it can't be taken for an option, nor for the name of a library. */
static char *path_plain(const char *path)
{
    char *plain;

    return asprintf(&plain, "%s%s", path[0] == '/' ? "" : "./", path) < 0 ? NULL : plain;
}

/* Follows scripts to the program that runs them. path_ret: heap, or NULL when there is none.
 * program_ret: what it is. */
static struct error *program_follow(const char *path, struct program *program_ret, char **path_ret)
{
    CLEANUP(free) char *current = path_plain(path);

    if (!current)
        return &error_no_memory;
    for (int i = 0; i <= MAX_SCRIPTS; i++) {
        struct program program = {.fd = -1};
        struct error *err = program_open(current, &program);

        if (err || program.is_elf || !program.interpreter) {
            if (!err && program.is_elf) {
                *program_ret = program;
                *path_ret = take_ptr(current);
                return NULL;
            }
            program_deinit(&program);
            return err;
        }
        free(current);
        current = path_plain(program.interpreter);
        program_deinit(&program);
        if (!current)
            return &error_no_memory;
    }
    return NULL;
}

static struct error *program_needs(const struct program *program, const char *path,
                                   struct needed_files *needed)
{
    RETURN_IF_ERROR(needed_add(needed, path, strlen(path)));
    if (!program->interpreter)
        return NULL;
    if (program->may_be_asked && linker_is_known(program->interpreter) && !linker_has_auditors())
        RETURN_IF_ERROR(linker_ask(program->interpreter, path, needed));
    return needed_add(needed, program->interpreter, strlen(program->interpreter));
}

struct error *needed_files_find(const char *path, struct needed_files *needed_ret)
{
    CLEANUP(program_deinit) struct program program = {.fd = -1};
    CLEANUP(free) char *program_path = NULL;
    struct needed_files needed = {0};
    struct error *err;

    RETURN_IF_ERROR(program_follow(path, &program, &program_path));
    err = program_path ? program_needs(&program, program_path, &needed) : NULL;
    if (err) {
        needed_files_deinit(&needed);
        return err;
    }
    *needed_ret = needed;
    return NULL;
}

void needed_files_deinit(struct needed_files *needed)
{
    for (size_t i = 0; i < needed->num_paths; i++)
        free(needed->paths[i]);
    free(needed->paths);
    *needed = (struct needed_files){0};
}
