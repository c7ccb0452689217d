/* tests/emulation/shim.h - what spirv-cross's Metal text needs of <metal_stdlib>, as C++17. Only what it has been seen
 * to need: anything else is a compiler's error, and to be added here with its meaning from the Metal Shading Language
 * Specification. */
#ifndef SPI_TESTS_EMULATION_SHIM_H
#define SPI_TESTS_EMULATION_SHIM_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation/lanes.h"

namespace metal {

typedef uint32_t uint;
typedef uint16_t ushort;

/* A storage buffer's unbounded array: every access is checked against the buffer that is bound. */
template <typename T, int BUFFER> struct elements {
    static T *at(uint64_t index) {
        const emu_bound &bound = emu_bounds[BUFFER];
        if (__builtin_expect((index + 1) * sizeof(T) > bound.bytes, 0)) {
            return static_cast<T *>(emu_outside(BUFFER, index));
        }
        return reinterpret_cast<T *>(bound.base) + index;
    }
    T &operator[](uint64_t index) {
        return *at(index);
    }
    const T &operator[](uint64_t index) const {
        return *at(index);
    }
};

template <typename T, size_t N> struct spvUnsafeArray {
    T items[N];
    T &operator[](size_t i) {
        return items[i];
    }
    const T &operator[](size_t i) const {
        return items[i];
    }
};

/* Vectors. Those of three take the room of four, as in Metal. */
template <typename T, int N> struct fields;
template <typename T> struct fields<T, 2> {
    union {
        T items[2];
        struct {
            T x, y;
        };
    };
};
template <typename T> struct fields<T, 3> {
    union {
        T items[4];
        struct {
            T x, y, z;
        };
    };
};
template <typename T> struct fields<T, 4> {
    union {
        T items[4];
        struct {
            T x, y, z, w;
        };
    };
};

template <typename T, int N> struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : fields<T, N> {
    using fields<T, N>::items;
    vec() = default;
    vec(T all) {
        for (int i = 0; i < N; i++)
            items[i] = all;
    }
    template <typename U> explicit vec(const vec<U, N> &from) {
        for (int i = 0; i < N; i++)
            items[i] = T(from.items[i]);
    }
    template <typename A, typename B, typename... Rest> vec(const A &a, const B &b, const Rest &...rest) {
        int at = 0;
        put(at, a);
        put(at, b);
        (put(at, rest), ...);
        static_assert(sizeof(T) != 0);
    }
    T &operator[](size_t i) {
        return items[i];
    }
    const T &operator[](size_t i) const {
        return items[i];
    }
    template <char... C> vec<T, sizeof...(C)> swizzle() const {
        return {items[C == 'w' ? 3 : C - 'x']...};
    }

  private:
    template <typename S> std::enable_if_t<std::is_arithmetic_v<S>> put(int &at, S value) {
        items[at++] = T(value);
    }
    template <typename S, int M> void put(int &at, const vec<S, M> &from) {
        for (int i = 0; i < M; i++)
            items[at++] = T(from.items[i]);
    }
};

#define OPERATOR(op)                                                                                                   \
    template <typename T, int N> vec<T, N> operator op(const vec<T, N> &a, const vec<T, N> &b) {                       \
        vec<T, N> r;                                                                                                   \
        for (int i = 0; i < N; i++)                                                                                    \
            r.items[i] = T(a.items[i] op b.items[i]);                                                                  \
        return r;                                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> vec<T, N> operator op(const vec<T, N> &a, std::common_type_t<T> b) {                  \
        return a op vec<T, N>(b);                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> vec<T, N> operator op(std::common_type_t<T> a, const vec<T, N> &b) {                  \
        return vec<T, N>(a) op b;                                                                                      \
    }                                                                                                                  \
    template <typename T, int N> vec<T, N> &operator op##=(vec<T, N> &a, const vec<T, N> &b) {                         \
        return a = a op b;                                                                                             \
    }                                                                                                                  \
    template <typename T, int N> vec<T, N> &operator op##=(vec<T, N> &a, std::common_type_t<T> b) {                    \
        return a = a op b;                                                                                             \
    }
OPERATOR(+)
OPERATOR(-)
OPERATOR(*)
OPERATOR(/)
OPERATOR(%)
OPERATOR(&)
OPERATOR(|)
OPERATOR(^)
OPERATOR(<<)
OPERATOR(>>)
#undef OPERATOR
template <typename T, int N> vec<T, N> operator-(const vec<T, N> &a) {
    return vec<T, N>(T(0)) - a;
}

typedef vec<float, 2> float2;
typedef vec<float, 3> float3;
typedef vec<float, 4> float4;
typedef vec<uint, 2> uint2;
typedef vec<uint, 3> uint3;
typedef vec<uint, 4> uint4;
typedef vec<int, 2> int2;
typedef vec<int, 3> int3;
typedef vec<int, 4> int4;

/* Half floats are only ever unpacked: IEEE 754 binary16, of which f32 holds every value. */
struct half {
    uint16_t bits;
    operator float() const {
        uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff, word;
        if (exponent == 31) {
            word = sign | 0x7f800000 | fraction << 13;
        } else if (exponent) {
            word = sign | (exponent + 112) << 23 | fraction << 13;
        } else {
            float value = float(fraction) * 0x1p-24f;
            return sign ? -value : value;
        }
        float value;
        memcpy(&value, &word, sizeof value);
        return value;
    }
};
typedef vec<half, 2> half2;

template <typename To, typename From> To as_type(const From &from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(static_cast<void *>(&to), &from, sizeof to);
    return to;
}

/* Functions of one number, which take vectors, too. */
#define FUNCTION(name)                                                                                                 \
    inline float name(float x) {                                                                                       \
        return std::name(x);                                                                                           \
    }                                                                                                                  \
    template <int N> vec<float, N> name(vec<float, N> x) {                                                             \
        for (int i = 0; i < N; i++)                                                                                    \
            x.items[i] = std::name(x.items[i]);                                                                        \
        return x;                                                                                                      \
    }
FUNCTION(exp)
FUNCTION(sqrt)
#undef FUNCTION
inline float fma(float a, float b, float c) {
    return std::fma(a, b, c);
}
template <int N> vec<float, N> fma(vec<float, N> a, const vec<float, N> &b, const vec<float, N> &c) {
    for (int i = 0; i < N; i++)
        a.items[i] = std::fma(a.items[i], b.items[i], c.items[i]);
    return a;
}
template <typename T> T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> T max(T a, T b) {
    return a < b ? b : a;
}
template <typename T> T clamp(T x, T low, T high) {
    return min(max(x, low), high);
}
namespace fast {
using metal::clamp;
using metal::max;
using metal::min;
} // namespace fast

/* Threads that wait for each other; the line is the caller's. */
enum class mem_flags { mem_none, mem_device, mem_threadgroup };
inline void threadgroup_barrier(mem_flags, int line = __builtin_LINE()) {
    emu_barrier(line);
}

template <typename T> T simd_sum(T value, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= EMU_SLOT_BYTES);
    uint32_t there;
    const uint8_t *slots = emu_exchange(line, &value, sizeof value, &there);
    T sum = T(0);
    for (uint32_t i = 0; i < EMU_SIMD_WIDTH; i++) {
        if (there >> i & 1) {
            T one;
            memcpy(static_cast<void *>(&one), slots + i * EMU_SLOT_BYTES, sizeof one);
            sum = sum + one;
        }
    }
    return sum;
}

/* What arguments with attributes are made of. */
template <typename T> T emu_id(const uint32_t from[3]) {
    if constexpr (std::is_arithmetic_v<T>) {
        return T(from[0]);
    } else {
        T to;
        for (size_t i = 0; i < sizeof(to.items) / sizeof(to.items[0]) && i < 3; i++)
            to.items[i] = from[i];
        return to;
    }
}

} // namespace metal

#define kernel static
#define device
#define constant const
#define thread
#endif
