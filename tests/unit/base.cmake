ppdsm_unit_test(base_test base/files_test.cc)
