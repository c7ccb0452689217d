# cmake -DINPUT=FILE -DOUTPUT=HEADER -P embed_bytes.cmake: a file's bytes and a zero, to be included in an array.
file(READ "${INPUT}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE "${OUTPUT}" "${bytes}0\n")
