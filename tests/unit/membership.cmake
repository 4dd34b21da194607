ppdsm_unit_test(membership_test core/membership_test.cc LIBS ppdsm_core)
ppdsm_unit_test(membership_sync_test core/membership_sync_test.cc LIBS ppdsm_core)
