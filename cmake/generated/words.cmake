# cmake -DFROM=NAME.spv -DTO=NAME.spv.h -P words.cmake: a binary of little-endian words as a list to be included in an
# array.
file(READ "${FROM}" bytes HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1,\n" words "${bytes}")
file(WRITE "${TO}" "${words}")
