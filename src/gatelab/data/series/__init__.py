"""Series: named data sets and tables, the forecasting protocol, and the DataModule of forecasting."""
