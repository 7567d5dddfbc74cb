/* Which of some names a misspelt word may have meant.
 *
 * For hints of errors only: nothing is decided by it. Threads: pure functions.
 */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

/* Finds the name in a NULL-terminated list that is nearest to `word`, by Levenshtein distance; a
 * word that a name begins with counts as an abbreviation of it. Returns: the name, or NULL when
 * none is near. */
const char *nearest_name(const char *word, const char *const *names);

#endif
