/* C++'s ways to allocate; see heap_truth.h. */
#include <memory>
#include <new>
#include <vector>

#include "heap_truth.h"

static void *volatile escaped; /* so that no allocation is optimized away */

struct Node {
    uint64_t words[7];
};

static void delete_one(void *block)
{
    ::operator delete(block);
}

static void delete_node(void *block)
{
    delete static_cast<Node *>(block);
}

static void delete_array(void *block)
{
    delete[] static_cast<char *>(block);
}

static void delete_aligned(void *block)
{
    ::operator delete[](block, std::align_val_t(64));
}

static void delete_vector(void *block)
{
    delete static_cast<std::vector<uint64_t> *>(block);
}

APART void keep_new(void)
{
    for (int i = 0; i < 3000; i++) {
        Node *node = new Node();
        account_alloc(ACCOUNT(keep_new), sizeof(Node));
        account_keep(ACCOUNT(keep_new), node, sizeof(Node), delete_node);
        if (i % 500 == 0)
            breathe();
    }
}

APART void keep_new_array(void)
{
    for (int i = 0; i < 200; i++) {
        uint64_t bytes = size_between(8, 32);
        void *block = i % 2 ? new char[bytes] : new (std::nothrow) char[bytes];
        account_alloc(ACCOUNT(keep_new_array), bytes);
        account_keep(ACCOUNT(keep_new_array), block, bytes, delete_array);
    }
    breathe();
}

APART void keep_operator(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(4, 32);
        void *block = i % 2 ? ::operator new(bytes) : ::operator new(bytes, std::nothrow);
        account_alloc(ACCOUNT(keep_operator), bytes);
        account_keep(ACCOUNT(keep_operator), block, bytes, delete_one);
    }
    breathe();
}

APART void keep_aligned_new(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(8, 32) / 64 * 64 + 64;
        void *block = new (std::align_val_t(64)) char[bytes];
        account_alloc(ACCOUNT(keep_aligned_new), bytes);
        account_keep(ACCOUNT(keep_aligned_new), block, bytes, delete_aligned);
    }
    breathe();
}

/* The vector's own three words are allocated here, too. */
APART void keep_vector(void)
{
    for (int i = 0; i < 100; i++) {
        uint64_t number = size_between(1, 4), bytes = number * sizeof(uint64_t);
        auto *vector = new std::vector<uint64_t>();
        vector->reserve(number);
        account_alloc(ACCOUNT(keep_vector), sizeof(*vector));
        account_alloc(ACCOUNT(keep_vector), bytes);
        account_keep(ACCOUNT(keep_vector), vector, sizeof(*vector) + bytes, delete_vector);
    }
    breathe();
}

APART void drop_new(void)
{
    std::vector<std::unique_ptr<char[]>> some;
    some.reserve(100);
    account_alloc(ACCOUNT(drop_new), 100 * sizeof(some[0]));
    for (int i = 0; i < 100; i++) {
        uint64_t bytes = size_between(4, 32);
        some.emplace_back(new char[bytes]);
        account_alloc(ACCOUNT(drop_new), bytes);
    }
    for (int i = 0; i < 1000; i++) {
        auto node = std::make_unique<Node>();
        escaped = node.get();
        account_alloc(ACCOUNT(drop_new), sizeof(Node));
    }
    breathe();
}

static void do_round(void)
{
    keep_new();
    keep_new_array();
    keep_operator();
    keep_aligned_new();
    keep_vector();
    drop_new();
}

int main(int argc, char **argv)
{
    return obey(argc, argv);
}
