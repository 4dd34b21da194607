ppdsm_unit_test(kernels_test
  kernels/command_test.cc kernels/ga_test.cc kernels/life_test.cc kernels/pieces_test.cc
  kernels/tsplib_test.cc
  LIBS kernel_cores PNG::PNG)
target_compile_definitions(kernels_test PRIVATE KERNELS_DATA="${CMAKE_CURRENT_SOURCE_DIR}/kernels/data")

ppdsm_unit_test(kernels_run_test kernels/run_test.cc)
target_compile_definitions(kernels_run_test PRIVATE
  KERNELS_DATA="${CMAKE_CURRENT_SOURCE_DIR}/kernels/data" KERNELS_BIN="$<TARGET_FILE_DIR:kernel_pi>")
add_dependencies(kernels_run_test kernels)
