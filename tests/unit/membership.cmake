ppdsm_unit_test(membership_test core/membership_test.cc LIBS ppdsm_core)
