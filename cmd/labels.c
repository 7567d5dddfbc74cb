#include "cmd/labels.h"

#include "base/compiler.h"

struct error *label_keys_init(struct label_keys *keys, struct stack_table *table)
{
    RETURN_IF_ERROR(string_table_add(&table->strings, "pid", &keys->pid));
    RETURN_IF_ERROR(string_table_add(&table->strings, "thread_id", &keys->thread_id));
    RETURN_IF_ERROR(string_table_add(&table->strings, "thread_name", &keys->thread_name));
    return string_table_add(&table->strings, "comm", &keys->comm);
}

struct error *labels_of_thread(const struct label_keys *keys, struct stack_table *table,
                               const struct process *process, uint32_t pid, uint32_t tid,
                               uint32_t *label_set_ret)
{
    struct label labels[] = {
        {.key = keys->pid, .num = pid},
        {.key = keys->thread_id, .num = tid},
        {.key = keys->thread_name},
        {.key = keys->comm},
    };

    if (process) {
        labels[2].str = process_thread_name(process, tid);
        labels[3].str = process->comm;
    }
    return stack_table_add_label_set(table, labels, ARRAY_LENGTH(labels), label_set_ret);
}

struct error *labels_of_process(const struct label_keys *keys, struct stack_table *table,
                                const struct process *process, uint32_t *label_set_ret)
{
    struct label labels[] = {
        {.key = keys->pid, .num = process->pid},
        {.key = keys->comm, .str = process->comm},
    };

    return stack_table_add_label_set(table, labels, ARRAY_LENGTH(labels), label_set_ret);
}
