#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

#define MAX_NAME_BYTES 64

/* Levenshtein distance. Returns: SIZE_MAX beyond a bound on length: names are short. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[MAX_NAME_BYTES];
    size_t len_a = strlen(a);
    size_t len_b = strlen(b);

    if (len_a >= MAX_NAME_BYTES || len_b >= MAX_NAME_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= len_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[len_b];
}

const char *nearest_name(const char *word, const char *const *names)
{
    const char *nearest = NULL;
    size_t best = strlen(word) / 2 + 1; /* farther than half the word is no misspelling */

    for (; *names; names++) {
        size_t distance = edit_distance(word, *names);

        if (strlen(word) >= 2 && strncmp(*names, word, strlen(word)) == 0)
            distance = 1; /* an abbreviation */
        if (distance < best) {
            best = distance;
            nearest = *names;
        }
    }
    return nearest;
}
