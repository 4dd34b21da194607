ppdsm_unit_test(switchboard_test core/switchboard_test.cc core/switchboard_random_test.cc LIBS ppdsm_core)

# Real processes with the preloaded library.
ppdsm_unit_test(call_journal_test vthreads/call_journal_test.cc LIBS ppdsm_vthreads)
ppdsm_unit_test(linked_test vthreads/linked_test.cc vthreads/linked_computer.cc LIBS ppdsm_vthreads)
add_executable(linked_program vthreads/programs/linked.cc)
target_link_libraries(linked_program PRIVATE ppdsm_headers)
# In a directory of its own, since that is shown to it and copied with it.
set_target_properties(linked_program PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/programs)
target_compile_definitions(linked_test PRIVATE
  PPDSM_RUNTIME_LIBRARY="$<TARGET_FILE:ppdsm_runtime>" LINKED_PROGRAM="$<TARGET_FILE:linked_program>"
  KERNELS_BIN="$<TARGET_FILE_DIR:kernel_pi>")
add_dependencies(linked_test ppdsm_runtime linked_program kernels)
