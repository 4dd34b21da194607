ppdsm_unit_test(program_files_test
  peer/program_files_cache_test.cc
  peer/program_files_owner_test.cc
  LIBS ppdsm_program_files)
