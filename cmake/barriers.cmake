# cmake -DFILE=NAME.spv.txt -P barriers.cmake: a shader's text (of spirv-dis) in which barriers make shared memory available
# and visible, as in all other shaders. For cooperative matrices the compiler takes the Vulkan memory model and has every single
# access do it, and drivers do as they are told.
file(READ "${FILE}" text)
string(REGEX REPLACE "MakePointer(Available|Visible)\\|NonPrivatePointer %[A-Za-z0-9_]+" "NonPrivatePointer" text "${text}")
# 264: acquire and release, the work group's memory; 3400: all memory. And 0x6000: make available, make visible.
string(REGEX REPLACE "(OpControlBarrier %[a-z0-9_]+ %[a-z0-9_]+) %uint_264\n" "\\1 %group_barrier\n" text "${text}")
string(REGEX REPLACE "(OpControlBarrier %[a-z0-9_]+ %[a-z0-9_]+) %uint_3400\n" "\\1 %subgroup_barrier\n" text "${text}")
string(REGEX REPLACE "(\n *%uint = OpTypeInt 32 0\n)"
  "\\1%group_barrier = OpConstant %uint 24840\n%subgroup_barrier = OpConstant %uint 27976\n" text "${text}")
if(text MATCHES "MakePointer" OR text MATCHES "OpControlBarrier [^\n]*%uint_[0-9]+\n")
  message(FATAL_ERROR "${FILE}: not the memory accesses that this was written for")
endif()
file(WRITE "${FILE}" "${text}")
