/* guest/list.h - doubly linked lists whose links lie in the things listed. May include: nothing. */
#ifndef SPI_GUEST_LIST_H
#define SPI_GUEST_LIST_H

#include <stddef.h>
#include <stdint.h>

typedef struct spi_link_node {
    struct spi_link_node *next, *previous;
    struct spi_list *list; /* NULL: in none */
} spi_link_node;

typedef struct spi_list {
    spi_link_node *first, *last;
    uint32_t count;
} spi_list;

/* The thing of type `type` whose member `member` is the node. */
#define SPI_LIST_ITEM(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void spi_list_remove(spi_link_node *node) {
    spi_list *list = node->list;
    if (!list) {
        return;
    }
    *(node->previous ? &node->previous->next : &list->first) = node->next;
    *(node->next ? &node->next->previous : &list->last) = node->previous;
    list->count--;
    *node = (spi_link_node){0};
}

/* Puts a node at the end; one that is in a list leaves it first. */
static inline void spi_list_append(spi_list *list, spi_link_node *node) {
    spi_list_remove(node);
    *node = (spi_link_node){.previous = list->last, .list = list};
    *(list->last ? &list->last->next : &list->first) = node;
    list->last = node;
    list->count++;
}

#endif
