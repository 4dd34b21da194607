ppdsm_unit_test(layer_test files/layer_apply_test.cc files/layer_capture_test.cc
                files/tree_fixture.cc LIBS ppdsm_files)
