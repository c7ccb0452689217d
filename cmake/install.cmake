# make install: program, library (shared and static), headers, pkg-config file, the guests' SDK and the demo model.
# Wasmtime's library has no soname and no packaged home, so it travels in a folder of our own.
set(SAMEPAGE_PRIVATE_LIBDIR "${CMAKE_INSTALL_LIBDIR}/samepage")
set_target_properties(samepage_shared PROPERTIES INSTALL_RPATH "$ORIGIN/samepage")
install(TARGETS samepage_shared samepage_static
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(FILES "${WASMTIME_LIBRARY}" DESTINATION "${SAMEPAGE_PRIVATE_LIBDIR}")
install(DIRECTORY include/samepage DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
install(DIRECTORY sdk/ DESTINATION "${CMAKE_INSTALL_DATADIR}/samepage/sdk" PATTERN "CMakeLists.txt" EXCLUDE)
install(DIRECTORY models/ DESTINATION "${CMAKE_INSTALL_DATADIR}/samepage/models" FILES_MATCHING PATTERN "*.gguf")
configure_file(cmake/samepage.pc.in samepage.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/samepage.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(TARGET samepage)
  set_target_properties(samepage PROPERTIES INSTALL_RPATH "$ORIGIN/../${SAMEPAGE_PRIVATE_LIBDIR}")
  install(TARGETS samepage RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()
