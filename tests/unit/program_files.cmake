ppdsm_unit_test(program_files_test
  peer/program_files_broker_test.cc
  peer/program_files_cache_test.cc
  peer/program_files_owner_test.cc
  peer/program_files_plan_test.cc
  sandbox/directory_listing_test.cc
  sandbox/file_tree_test.cc
  LIBS ppdsm_program_files)

ppdsm_unit_test(program_files_mount_test
  peer/program_files_mount_test.cc ${CMAKE_SOURCE_DIR}/criu-glue/sandbox/file_server.cc
  LIBS ppdsm_program_files PkgConfig::FUSE3)

# What runs in the sandboxes is a process apart, as an executor is.
add_executable(program_files_executor peer/program_files_executor.cc)
target_link_libraries(program_files_executor PRIVATE ppdsm_peer nlohmann_json::nlohmann_json)
add_dependencies(program_files_executor ppdsm-warden ppdsm-init)

ppdsm_unit_test(program_files_sandbox_test peer/program_files_sandbox_test.cc
  LIBS ppdsm_program_files nlohmann_json::nlohmann_json)
# By hand only.
add_executable(program_files_start_bench peer/program_files_start_bench.cc)
target_link_libraries(program_files_start_bench
  PRIVATE ppdsm_program_files nlohmann_json::nlohmann_json GTest::gtest)
foreach(target program_files_sandbox_test program_files_start_bench)
  target_compile_definitions(${target} PRIVATE
    PPDSM_TEST_EXECUTOR="$<TARGET_FILE:program_files_executor>"
    PPDSM_LIBEXEC="${CMAKE_BINARY_DIR}/libexec")
  add_dependencies(${target} program_files_executor)
endforeach()
