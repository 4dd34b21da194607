ppdsm_unit_test(ring_test
  core/rings/ring_test.cc core/rings/ring_harm_test.cc core/rings/ring_processes_test.cc
  core/rings/blob_area_test.cc core/rings/stream_test.cc
  core/rings/ring_set_test.cc base/futex_test.cc
  LIBS ppdsm_rings)

# The ends of a ring are compiled into a library that finds nothing in a program but its C library: whatever else they
# asked for would not link here.
if(NOT PPDSM_SANITIZE)
  add_library(ring_without_library SHARED core/rings/ring_without_library.cc)
  target_link_libraries(ring_without_library PRIVATE ppdsm_options c)
  target_compile_options(ring_without_library PRIVATE -fno-exceptions -fno-rtti -fno-stack-protector)
  target_link_options(ring_without_library PRIVATE -nostdlib -Wl,-z,defs)
endif()
