/* source/value.c - what is in a value: numbers, bools, strings and arrays of them. Lengths were checked by the reader.
 * May include: base. */
#include <string.h>

#include "base/half.h"
#include "source/source.h"

uint32_t spi_load_u32(const void *bytes) {
    const unsigned char *b = bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t spi_load_u64(const void *bytes) {
    const unsigned char *b = bytes;
    return (uint64_t)spi_load_u32(b) | (uint64_t)spi_load_u32(b + 4) << 32;
}

size_t spi_value_number_bytes(uint32_t type) {
    switch (type) {
    case SPI_VALUE_U8:
    case SPI_VALUE_I8:
    case SPI_VALUE_BOOL: return 1;
    case SPI_VALUE_U16:
    case SPI_VALUE_I16: return 2;
    case SPI_VALUE_U32:
    case SPI_VALUE_I32:
    case SPI_VALUE_F32: return 4;
    case SPI_VALUE_U64:
    case SPI_VALUE_I64:
    case SPI_VALUE_F64: return 8;
    default: return 0;
    }
}

/* Any integer as 64 bits, and whether they are a negative number. */
static bool load_integer(uint32_t type, const unsigned char *at, uint64_t *bits, bool *negative) {
    int64_t value;
    *negative = false;
    switch (type) {
    case SPI_VALUE_U8: *bits = at[0]; return true;
    case SPI_VALUE_U16: *bits = (uint64_t)at[0] | (uint64_t)at[1] << 8; return true;
    case SPI_VALUE_U32: *bits = spi_load_u32(at); return true;
    case SPI_VALUE_U64: *bits = spi_load_u64(at); return true;
    case SPI_VALUE_I8: value = (int8_t)at[0]; break;
    case SPI_VALUE_I16: value = (int16_t)((uint16_t)at[0] | (uint16_t)(at[1] << 8)); break;
    case SPI_VALUE_I32: value = (int32_t)spi_load_u32(at); break;
    case SPI_VALUE_I64: value = (int64_t)spi_load_u64(at); break;
    default: return false;
    }
    *bits = (uint64_t)value;
    *negative = value < 0;
    return true;
}

static bool load_double(uint32_t type, const unsigned char *at, double *out) {
    if (type == SPI_VALUE_F32) {
        *out = (double)spi_bits_to_f32(spi_load_u32(at));
        return true;
    }
    if (type == SPI_VALUE_F64) {
        uint64_t bits = spi_load_u64(at);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    return false;
}

bool spi_value_as_u64(const spi_value *value, uint64_t *out) {
    uint64_t bits;
    bool negative;
    if (!value || !load_integer(value->type, value->data, &bits, &negative) || negative) {
        return false;
    }
    *out = bits;
    return true;
}

bool spi_value_as_i64(const spi_value *value, int64_t *out) {
    uint64_t bits;
    bool negative;
    if (!value || !load_integer(value->type, value->data, &bits, &negative) || (!negative && bits > INT64_MAX)) {
        return false;
    }
    *out = (int64_t)bits;
    return true;
}

bool spi_value_as_f64(const spi_value *value, double *out) {
    return value && load_double(value->type, value->data, out);
}

bool spi_value_as_bool(const spi_value *value, bool *out) {
    if (!value || value->type != SPI_VALUE_BOOL) {
        return false;
    }
    *out = *(const unsigned char *)value->data != 0;
    return true;
}

static spi_string load_string(const unsigned char *at) {
    return (spi_string){.text = (const char *)at + 8, .bytes = (size_t)spi_load_u64(at)};
}

bool spi_value_as_string(const spi_value *value, spi_string *out) {
    if (!value || value->type != SPI_VALUE_STRING) {
        return false;
    }
    *out = load_string(value->data);
    return true;
}

bool spi_value_strings(const spi_value *value, spi_value_iterator *iterator) {
    if (!value || value->type != SPI_VALUE_ARRAY || value->element_type != SPI_VALUE_STRING) {
        return false;
    }
    *iterator = (spi_value_iterator){.next = value->data, .left = value->count};
    return true;
}

bool spi_value_next(spi_value_iterator *iterator, spi_string *out) {
    if (iterator->left == 0) {
        return false;
    }
    *out = load_string(iterator->next);
    iterator->next += 8 + out->bytes;
    iterator->left--;
    return true;
}

static const unsigned char *element(const spi_value *value, uint64_t index) {
    if (!value || value->type != SPI_VALUE_ARRAY || index >= value->count) {
        return NULL;
    }
    size_t size = spi_value_number_bytes(value->element_type);
    return size ? (const unsigned char *)value->data + index * size : NULL;
}

bool spi_value_array_i64(const spi_value *value, uint64_t index, int64_t *out) {
    const unsigned char *at = element(value, index);
    uint64_t bits;
    bool negative;
    if (!at || !load_integer(value->element_type, at, &bits, &negative) || (!negative && bits > INT64_MAX)) {
        return false;
    }
    *out = (int64_t)bits;
    return true;
}

bool spi_value_array_f64(const spi_value *value, uint64_t index, double *out) {
    const unsigned char *at = element(value, index);
    return at && load_double(value->element_type, at, out);
}

void spi_string_printable(spi_string string, char *out, size_t capacity) {
    if (capacity == 0) {
        return;
    }
    if (!string.text) {
        string = (spi_string){.text = "(none)", .bytes = 6};
    }
    size_t length = string.bytes < capacity - 1 ? string.bytes : capacity - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)string.text[i];
        out[i] = byte < 0x20 || byte == 0x7f ? '?' : string.text[i];
    }
    out[length] = 0;
}
