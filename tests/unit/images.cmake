# What is dumped must stay free of sanitizers, so it takes none of our options.
add_executable(images_dump_subject images/dump_subject.cc)
target_link_libraries(images_dump_subject PRIVATE Threads::Threads)
ppdsm_unit_test(images_test images/bad_images_test.cc images/memory_image_test.cc
                images/process_image_test.cc images/real_dump.cc images/tree_diff_test.cc
                LIBS ppdsm_images)
target_compile_definitions(images_test
  PRIVATE PPDSM_DUMP_SUBJECT="$<TARGET_FILE:images_dump_subject>")
add_dependencies(images_test images_dump_subject)
