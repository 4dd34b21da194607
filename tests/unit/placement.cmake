ppdsm_unit_test(placement_test core/placement_test.cc LIBS ppdsm_core)
